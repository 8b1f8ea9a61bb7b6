#!/usr/bin/env bash
# Sets vexil up, builds it, shows it and tests it, on Debian 12. `./vexil.sh help` says how.
set -euo pipefail

cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
readonly PACKAGE_LIST=tools/packages.txt  # groups: [build] [test] [python] [optional]
readonly PYTHON_LIST=tools/python-packages.txt  # one name==version per line
readonly PYTHON_ENVIRONMENT=build/python
readonly LOGS=build/logs

usage() {
  cat <<'TEXT'
usage: ./vexil.sh COMMAND [OPTION]

  demo      build, then answer the prompts in examples/prompts.txt with the small model in models/tiny
  test      build for testing, then run the whole test suite
  build     build the program: build/release/vexil
  help      print this

  --fast         test: only the tests labelled `fast`
  --with-python  test: also install the Python packages that optional cross-checks use (PyTorch among them: 5 GB)
  --no-install   take the installed packages as they are

Debian packages that are missing (tools/packages.txt) are installed first, as root or through sudo.
Logs of each step: build/logs. CMAKE_BUILD_PARALLEL_LEVEL limits the number of compile jobs.
TEXT
}

on_terminal() { [[ -t 1 && ${CI:-} != true && -z ${NO_COLOR:-} ]]; }

say() {
  if on_terminal; then
    printf '\033[1m==> %s\033[0m\n' "$*"
  else
    printf '==> %s\n' "$*"
  fi
}

# fail STATUS MESSAGE...
fail() {
  local status=$1
  shift
  printf 'vexil.sh: %s\n' "$*" >&2
  exit "$status"
}

# ---- packages ----------------------------------------------------------------------------------------

# The packages of the named groups, one per line.
packages_of() {
  local line group="" wanted=" $* "
  while IFS= read -r line; do
    line=${line%%#*}
    line=${line//[[:space:]]/}
    case $line in
      "") ;;
      \[*\]) group=${line:1:-1} ;;
      *) [[ $wanted != *" $group "* ]] || printf '%s\n' "$line" ;;
    esac
  done <"$PACKAGE_LIST"
}

# Those of the packages on standard input that are not installed.
missing_packages() {
  local package
  while IFS= read -r package; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed* ]] || printf '%s\n' "$package"
  done
}

# Prints what this user has to put in front of a command to run it as root; fails when there is nothing.
root_prefix() {
  if [[ $(id -u) == 0 ]]; then
    return 0
  fi
  command -v sudo >/dev/null || return 1
  # Without a terminal nobody can type a password.
  [[ -t 0 ]] || sudo -n true 2>/dev/null || return 1
  echo sudo
}

install_packages() {
  local -a missing as_root
  local prefix by_hand log=$LOGS/packages.log
  if ! command -v dpkg-query >/dev/null; then
    fail 2 "this is not a Debian system: install the equivalents of $PACKAGE_LIST and add --no-install"
  fi
  mapfile -t missing < <(packages_of "$@" | missing_packages)
  if ((${#missing[@]} == 0)); then
    return 0
  fi
  by_hand="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  if ! command -v apt-get >/dev/null || ! prefix=$(root_prefix); then
    fail 2 "Debian packages are missing and cannot be installed from here; run this as root, then try again:
$by_hand"
  fi
  say "installing Debian packages: ${missing[*]}"
  as_root=(env DEBIAN_FRONTEND=noninteractive)
  [[ -z $prefix ]] || as_root=("$prefix" "${as_root[@]}")
  run_logged "$log" "${as_root[@]}" apt-get -q update
  run_logged "$log" "${as_root[@]}" apt-get -q install -y --no-install-recommends "${missing[@]}"
}

# The PyPI packages of the cross-checks, in an environment of their own. A list that was installed is not looked at again.
install_python_packages() {
  local log=$LOGS/python.log
  if cmp -s "$PYTHON_LIST" "$PYTHON_ENVIRONMENT/installed.txt"; then
    return 0
  fi
  say "installing Python packages: $(tr '\n' ' ' <"$PYTHON_LIST")"
  run_logged "$log" python3 -m venv "$PYTHON_ENVIRONMENT"
  run_logged "$log" "$PYTHON_ENVIRONMENT/bin/pip" install --disable-pip-version-check -r "$PYTHON_LIST"
  cp "$PYTHON_LIST" "$PYTHON_ENVIRONMENT/installed.txt"
}

# ---- building ----------------------------------------------------------------------------------------

# run_logged LOG COMMAND...: appends the output to LOG; ends the script with the log's last lines on failure.
run_logged() {
  local log=$1
  shift
  mkdir -p "$LOGS"
  "$@" >>"$log" 2>&1 || show_failure "$log" "$*"
}

# The first compile error of the log, or else its end.
show_failure() {
  local log=$1 excerpt
  excerpt=$(sed -n '/^FAILED: /,$p' "$log" | head -n 40)
  printf '%s\n' "${excerpt:-$(tail -n 20 "$log")}" >&2
  fail 1 "failed: $2 (whole log: $log)"
}

# The lower of two numbers; a second that is no number ("max", nothing) sets no limit.
lower() { if [[ $2 =~ ^[0-9]+$ ]] && (($2 < $1)); then echo "$2"; else echo "$1"; fi; }

# Compile jobs: the processors that this process may use, with about 1 GB of memory for each.
compile_jobs() {
  local cgroup=/sys/fs/cgroup jobs quota=max period memory
  if [[ -r $cgroup/cpu.max ]]; then
    read -r quota period <$cgroup/cpu.max
    [[ $quota == max ]] || quota=$(((quota + period - 1) / period))
  fi
  jobs=$(lower "$(nproc)" "$quota")
  memory=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo) * 1024))
  memory=$(lower "$memory" "$(cat $cgroup/memory.max 2>/dev/null)")
  jobs=$(lower "$jobs" $((memory / 1000000000)))
  echo $((jobs < 1 ? 1 : jobs))
}

# Shows ninja's counter, "[12/345] ...", in one place on a terminal and nothing elsewhere.
show_counter() {
  local line
  while IFS= read -r line; do
    if on_terminal && [[ $line =~ ^\[([0-9]+/[0-9]+)\] ]]; then
      printf '\r    %s ' "${BASH_REMATCH[1]}"
    fi
  done
  if on_terminal; then
    printf '\r\033[K'
  fi
}

# build PRESET: a tree that stands is only brought up to date.
build() {
  local preset=$1 log=$LOGS/$1.log
  mkdir -p "$LOGS"
  : >"$log"
  say "building ($preset)"
  run_logged "$log" cmake --preset "$preset"
  if ! cmake --build --preset "$preset" -j "$jobs" 2>&1 | tee -a "$log" | show_counter; then
    show_failure "$log" "cmake --build --preset $preset"
  fi
}

# ---- commands ----------------------------------------------------------------------------------------

# generate OPTION...: prints the command as one would type it, then what it answers.
generate() {
  local word typed='$'
  set -- build/release/vexil generate --temperature 0 "$@"
  for word in "$@"; do
    [[ $word != *" "* ]] || word="'$word'"
    typed+=" $word"
  done
  printf '%s\n' "$typed"
  "$@"
}

demo() {
  build release
  say "answering examples/prompts.txt"
  generate --input-file examples/prompts.txt
  say "thinking before the answer"
  generate --thinking thinking --prompt "Compute 84 + 57."
  say "calling a tool"
  generate --tools examples/tools.json --prompt "What is the weather in Hanoi?"
}

# Nothing may be printed after the test runner's summary, so the runner takes the script's place.
run_tests() {
  build dev
  say "testing"
  exec ctest --preset "$1" -j "$jobs" --no-tests=error
}

main() {
  local command=${1:-help} install=yes test_preset=dev with_python=no option
  local -a groups=(build)
  shift $(($# > 0 ? 1 : 0))
  for option in "$@"; do
    case $command:$option in
      *:--no-install) install=no ;;
      test:--fast) test_preset=fast ;;
      test:--with-python)
        groups+=(python)
        with_python=yes
        ;;
      *) fail 2 "$command does not take '$option'; see ./vexil.sh help" ;;
    esac
  done
  case $command in
    build | demo) ;;
    test) groups+=(test) ;;
    help | -h | --help)
      usage
      return 0
      ;;
    *) fail 2 "unknown command '$command'; see ./vexil.sh help" ;;
  esac

  if [[ $install == yes ]]; then
    install_packages "${groups[@]}"
    [[ $with_python == no ]] || install_python_packages
  fi
  if command -v ccache >/dev/null; then
    export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER-ccache}
  fi
  on_terminal || export CLICOLOR=0  # for ctest
  jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(compile_jobs)}
  case $command in
    build)
      build release
      say "built build/release/vexil"
      ;;
    demo) demo ;;
    test) run_tests "$test_preset" ;;
  esac
}

main "$@"

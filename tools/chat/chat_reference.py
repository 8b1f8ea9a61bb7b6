"""The chat encoding and the completion parser of the specification, in Python: an independent witness for chat_check.py.

Written from the specification's words (sections in brackets), not from the C++. The fixed strings come from
testdata/chat/templates.json. Where the specification says that the reference stops in an unhandled error, this raises
ChatError too, except where it asks an implementation to accept the input (null and list contents)."""
import copy
import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
with open(os.path.join(ROOT, "testdata", "chat", "templates.json"), encoding="utf-8") as f:
    T = json.load(f)
TOKENS = T["tokens"]
BOS, EOS, USER, ASSISTANT = (TOKENS[k] for k in ("bos", "eos", "user", "assistant"))
THINK, END_THINK, DSML = TOKENS["think_start"], TOKENS["think_end"], TOKENS["dsml"]


class ChatError(Exception):
    pass


def need(condition, what):
    if not condition:
        raise ChatError(what)


def json_text(value):
    """[10]"""
    return json.dumps(value, ensure_ascii=False)


def flatten(content):
    """A content as text: null is empty, and of a list what is not text is named."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    need(isinstance(content, list), "content")
    parts = []
    for part in content:
        need(isinstance(part, dict) and isinstance(part.get("type"), str), "part")
        if part["type"] == "text":
            parts.append(part.get("text") or "")
        else:
            parts.append(f"[Unsupported {part['type']}]")
    return "\n\n".join(parts)


def merge(messages):
    """[3]"""
    out = []
    for m in copy.deepcopy(messages):
        joins = out and out[-1]["role"] == "user" and "blocks" in out[-1]
        if m["role"] == "tool":
            block = {"type": "tool_result", "id": m.get("tool_call_id") or "", "content": m.get("content")}
            if joins:
                out[-1]["blocks"].append(block)
            else:
                out.append({"role": "user", "blocks": [block]})
        elif m["role"] == "user":
            block = {"type": "text", "content": m.get("content")}
            if joins and out[-1].get("task") is None:
                out[-1]["blocks"].append(block)
            else:
                new = {"role": "user", "blocks": [block]}
                if m.get("task") is not None:
                    new["task"] = m["task"]
                out.append(new)
        else:
            out.append(m)
    return out


def sort_results(messages):
    """[4]"""
    index = {}
    for m in messages:
        if m["role"] == "assistant" and m.get("tool_calls"):
            index = {}
            for i, call in enumerate(m["tool_calls"]):
                id_ = call.get("id") or call["function"].get("id")
                if id_:
                    index[id_] = i
        elif m["role"] == "user":
            places = [i for i, b in enumerate(m["blocks"]) if b["type"] == "tool_result"]
            if len(places) > 1 and index:
                results = sorted((m["blocks"][i] for i in places), key=lambda b: index.get(b["id"], 0))
                for place, result in zip(places, results):
                    m["blocks"][place] = result


def last_user(messages):
    return max((i for i, m in enumerate(messages) if m["role"] in ("user", "developer")), default=-1)


def drop_reasoning(messages):
    """[5]"""
    out = []
    last = last_user(messages)
    for i, m in enumerate(messages):
        if i >= last or m["role"] in ("user", "system", "tool", "latest_reminder", "direct_search_results"):
            out.append(m)
        elif m["role"] == "assistant":
            out.append({k: v for k, v in m.items() if k != "reasoning_content"})
    return out


def encode(messages, thinking_mode, context=None, drop_thinking=True, add_default_bos_token=True,
           reasoning_effort=None, table="april"):
    """[6]"""
    need(thinking_mode in ("chat", "thinking"), "thinking_mode")
    efforts = T["effort_prefix"][table]
    effort = "null" if reasoning_effort is None else reasoning_effort
    need(effort in efforts and reasoning_effort != "null", "reasoning_effort")
    prefix = efforts[effort]
    for m in list(context or []) + list(messages):
        check(m)
    context = merge(context or [])
    messages = merge(messages)
    full = context + messages
    sort_results(full)
    prompt = BOS if add_default_bos_token and not context else ""
    drop = drop_thinking and not any(m.get("tools") for m in full)
    count = len(messages)
    if thinking_mode == "thinking" and drop:
        kept = len(drop_reasoning(context))
        full = drop_reasoning(full)
        count = len(full) - kept
    for i in range(len(full) - max(count, 0), len(full)):
        if i == 0 and thinking_mode == "thinking":
            prompt += prefix
        prompt += body(full, i, thinking_mode, drop) + transition(full, i, thinking_mode, drop)
    return prompt


def check(m):
    """What every message must have for its fields to be read at all."""
    need(isinstance(m, dict) and isinstance(m.get("role"), str), "role")
    flatten(m.get("content"))
    for tool in m.get("tools") or []:
        need(isinstance(tool, dict) and isinstance(tool.get("function"), dict), "tools")
    for call in m.get("tool_calls") or []:
        need(isinstance(call.get("function"), dict) and "name" in call["function"], "tool_calls")
        need("arguments" in call["function"], "arguments")


def instructions(m):
    text = flatten(m.get("content"))
    if m.get("tools"):
        schemas = "\n".join(json_text(t["function"]) for t in m["tools"])
        text += "\n\n" + T["tools_block"].replace("{tool_schemas}", schemas)
    if m.get("response_format"):
        text += "\n\n" + T["response_format"].replace("{schema}", json_text(m["response_format"]))
    return text


def body(full, i, mode, drop):
    """[7]"""
    m = full[i]
    role = m["role"]
    if role == "system":
        return instructions(m)
    if role == "developer":
        need(flatten(m.get("content")), "empty developer content")
        return USER + instructions(m)
    if role == "user":
        parts = []
        for b in m["blocks"]:
            text = flatten(b["content"])
            parts.append(f"<tool_result>{text}</tool_result>" if b["type"] == "tool_result" else text)
        return USER + "\n\n".join(parts)
    if role == "latest_reminder":
        return TOKENS["latest_reminder"] + ("None" if m.get("content") is None else flatten(m["content"]))
    need(role == "assistant", "role")
    text = ""
    answers_task = i > 0 and full[i - 1].get("task") is not None
    if mode == "thinking" and not answers_task and (not drop or i > last_user(full)):
        text = (m.get("reasoning_content") or "") + END_THINK
    text += flatten(m.get("content"))
    if m.get("tool_calls"):
        text += "\n\n<" + DSML + "tool_calls>\n" + "\n".join(map(invoke, m["tool_calls"])) + "\n</" + DSML + "tool_calls>"
    return text if m.get("wo_eos") else text + EOS


def invoke(call):
    """[9]"""
    arguments = call["function"]["arguments"]
    try:
        need(isinstance(arguments, str), "arguments")
        members = json.loads(arguments)
    except (ValueError, ChatError):
        members = {"arguments": arguments}
    need(isinstance(members, dict), "arguments are no object")
    lines = []
    for key, value in members.items():
        flag, text = ("true", value) if isinstance(value, str) else ("false", json_text(value))
        lines.append(f'<{DSML}parameter name="{key}" string="{flag}">{text}</{DSML}parameter>')
    return f'<{DSML}invoke name="{call["function"]["name"]}">\n' + "\n".join(lines) + f"\n</{DSML}invoke>"


def transition(full, i, mode, drop):
    """[8]"""
    if i + 1 < len(full) and full[i + 1]["role"] not in ("assistant", "latest_reminder"):
        return ""
    m = full[i]
    if m.get("task") is not None:
        need(m["task"] in TOKENS["tasks"], "task")
        token = TOKENS["tasks"][m["task"]]
        if m["task"] == "action":
            return ASSISTANT + (THINK if mode == "thinking" else END_THINK) + token
        return token
    if m["role"] in ("user", "developer"):
        opens = mode == "thinking" and (not drop or i >= last_user(full))
        return ASSISTANT + (THINK if opens else END_THINK)
    return ""


OPEN_CALLS = f"\n\n<{DSML}tool_calls"
OPEN_INVOKE, CLOSE_CALLS = f"<{DSML}invoke", f"</{DSML}tool_calls>"
OPEN_PARAMETER, CLOSE_INVOKE, CLOSE_PARAMETER = f"<{DSML}parameter", f"</{DSML}invoke", f"/{DSML}parameter"
NAME = re.compile(r'[ \t\n\v\f\r]*name="(.*?)">\n\n?', re.S)
PARAMETER = re.compile(r' name="(.*?)" string="(true|false)">(.*)<', re.S)


def read_until(text, *stops):
    """The text before the first of the stops, the stop (None: there is none), and what comes after it."""
    found = [(text.find(s), s) for s in stops if s in text]
    if not found:
        return text, None, ""
    at, stop = min(found)
    return text[:at], stop, text[at + len(stop):]


def parse(text, mode):
    """[12]"""
    reasoning = ""
    if mode == "thinking":
        reasoning, stop, text = read_until(text, END_THINK, OPEN_CALLS)
        need(stop == END_THINK, "missing end of thinking")
    content, stop, text = read_until(text, EOS, OPEN_CALLS)
    need(stop, "neither")
    calls = []
    if stop == OPEN_CALLS:
        calls, text = parse_calls(text)
        before, _, text = read_until(text, EOS)
        need(before == "", "text after the calls")
    need(text == "", "something remains")
    for token in (BOS, EOS, THINK, END_THINK, DSML):
        need(token not in content and token not in reasoning, "special token")
    return {"role": "assistant", "content": content, "reasoning_content": reasoning,
            "tool_calls": [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in calls]}


def parse_calls(text):
    calls = []
    while text:
        before, stop, text = read_until(text, OPEN_INVOKE, CLOSE_CALLS)
        need(before == ">\n" and stop, "end of a tag")
        if stop == CLOSE_CALLS:
            break
        head, stop, text = read_until(text, OPEN_PARAMETER, CLOSE_INVOKE)
        name = NAME.fullmatch(head)
        need(name, "name")
        members = {}
        while stop == OPEN_PARAMETER:
            inner, _, text = read_until(text, CLOSE_PARAMETER)
            parameter = PARAMETER.fullmatch(inner)
            need(parameter, "parameter")
            key, is_string, value = parameter.groups()
            need(key not in members, "repeated")
            members[key] = json_text(value) if is_string == "true" else value
            between, stop, text = read_until(text, OPEN_PARAMETER, CLOSE_INVOKE)
            need(between == ">\n", "end of a parameter")
        calls.append((name[1], "{" + ", ".join(f"{json_text(k)}: {v}" for k, v in members.items()) + "}"))
    return calls, text

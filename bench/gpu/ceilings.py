#!/usr/bin/env python3
"""Matrix rates of the vendor's libraries on this GPU, through PyTorch: the ceilings beside which the kernel benches
are read. Usage: ceilings.py"""
import torch


def rate(run, flops, calls=8, repeats=9):
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / calls)
    return flops / sorted(times)[len(times) // 2] * 1e-9


def main():
    print("device", torch.cuda.get_device_name())
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    print(f"BF16 GEMM {n}^3: {rate(lambda: a @ b, 2 * n**3):.0f} TFLOP/s")
    for m, n, k in ((8192, 8192, 8192), (4096, 32768, 1024), (4096, 4096, 8192)):
        x = torch.randn(m, k, device="cuda").to(torch.float8_e4m3fn)
        w = torch.randn(n, k, device="cuda").to(torch.float8_e4m3fn)
        one = torch.ones((), device="cuda")
        product = lambda: torch._scaled_mm(x, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        print(f"FP8 GEMM, one scale, {m}x{n}x{k}: {rate(product, 2 * m * n * k):.0f} TFLOP/s")


if __name__ == "__main__":
    main()

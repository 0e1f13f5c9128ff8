"""Matrix products and convolutions mod 2^64 on int8 tensor cores, and the choice among them by shape.

`mma_u8` is one fused kernel; `cublas_s8` and `crt_s8` are matrix products of cuBLAS between kernels of ours; the
kernel without tensor cores, `imad`, is in `kernels.gpu.linear`. `choose` picks one of them from a table that `tune`
measured. All are exact.
"""

"""Telling that memory did not suffice, whoever says it and however."""

from __future__ import annotations

import pytest
import torch

from cer_fusion.backbones.backbone import DeviceMemoryError, is_short_of_memory, or_does_not_fit

SHORT: list[Exception] = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other call"),
    RuntimeError("CUDA error: cudaErrorMemoryAllocation"),
    RuntimeError("HIP out of memory. Tried to allocate 2 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB, max allowed: 9 GB). Tried to allocate 1 GB"),
    RuntimeError("Invalid buffer size: 21 GB; failed to allocate private MTLBuffer"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:115] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4294967296 bytes."),
    RuntimeError("[enforce fail at CPUAllocator.cpp:64] . could not allocate memory"),
    RuntimeError("Unable to allocate 3.00 GiB for an array with shape (8, 3, 4096, 4096) and data type float32 bytes"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a memory object: out_of_memory"),
    Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
              "Name:'c' Status Message: bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t) "
              "Failed to allocate memory for requested buffer of size 1048576"),
    Exception("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=a ; expr=cublasCreate(&handle)"),
    Exception("CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0"),
    Exception("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);"),
]  # fmt: skip
if hasattr(torch, "AcceleratorError"):
    SHORT.append(torch.AcceleratorError("CUDA error: out of memory", 2))

OTHERS: list[Exception] = [
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x512 and 768x7)"),
    ValueError("expected a contiguous memory format"),
    KeyError("memory"),
]


@pytest.mark.parametrize("error", SHORT, ids=lambda error: str(error)[:40])
def test_every_way_of_saying_that_memory_is_short_is_one_error(error: Exception) -> None:
    def compute() -> None:
        raise error

    with pytest.raises(MemoryError, match=r"8 pictures at once(.|\n)*in backbone: vit") as caught:
        or_does_not_fit(compute, pictures=8, name="vit", device="cuda:1")
    assert isinstance(caught.value, DeviceMemoryError)
    assert caught.value.__context__ is None, "the tensors of the attempt would stay alive"


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: str(error)[:40])
def test_other_errors_go_on_as_they_are(error: Exception) -> None:
    def compute() -> None:
        raise error

    assert not is_short_of_memory(error)
    with pytest.raises(type(error)) as caught:
        or_does_not_fit(compute, pictures=8, name="vit", device="cpu")
    assert caught.value is error

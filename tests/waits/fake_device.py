"""A CUDA device that computes nothing: fake tensors with autograd and autocast, on a machine without a GPU.

Torch built for CPUs has neither guard nor hooks for the device, and looks for them once: `load` compiles them (g++) and
has to be called before anything imports torch.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
from pathlib import Path

GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <ATen/detail/CUDAHooksInterface.h>
namespace c10::impl {
struct Guard final : public NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device exchangeDevice(Device) const override { return Device(DeviceType::CUDA, 0); }
  Device getDevice() const override { return Device(DeviceType::CUDA, 0); }
  Stream getStream(Device) const noexcept override { return Stream(Stream::DEFAULT, Device(DeviceType::CUDA, 0)); }
  Stream exchangeStream(Stream) const noexcept override { return Stream(Stream::DEFAULT, Device(DeviceType::CUDA, 0)); }
  void record(void** e, const Stream&, const DeviceIndex, const EventFlag) const override { *e = (void*)1; }
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};
static Guard fake_guard;
static DeviceGuardImplRegistrar fake_registrar(DeviceType::CUDA, &fake_guard);
}
namespace at {
struct CUDAHooks : public CUDAHooksInterface {
  CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex current_device() const override { return 0; }
  int getNumGPUs() const override { return 1; }
};
REGISTER_CUDA_HOOKS(CUDAHooks)
}
"""


def compile_guard(folder: Path) -> Path:
    """Compile the guard, once for all processes of a session, and return the library."""
    torch_folder = _torch_folder()
    source, library = folder / "fake_device.cpp", folder / "fake_device.so"
    source.write_text(GUARD)
    include = [f"-I{torch_folder}/include", f"-I{torch_folder}/include/torch/csrc/api/include"]
    linked = [f"-L{torch_folder}/lib", "-lc10", "-ltorch_cpu"]
    command = ["g++", "-std=c++20", "-shared", "-fPIC", "-O0", str(source), *include, *linked, "-o", str(library)]
    subprocess.run(command, check=True)
    return library


def load(library: Path) -> None:
    """Load the guard; torch must not be there yet."""
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(_torch_folder() / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library))


def _torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent

"""How generated functions are compiled: what Numba's own pipeline leaves off, or gets wrong for them."""

from __future__ import annotations

from typing import Any

from numba.core import compiler, compiler_machinery, config, lowering, typed_passes

from graphc.codegen.intrinsics import attribute

# For AMD's Zen LLVM unrolls loops far and schedules code a second time, in quadratic time where it is straight: a
# transposed copy of 10 x 128 in a host function took 2.6 s instead of 0.13. Our benchmarks saw no difference in speed.
_BADLY_TUNED = "znver"
_TUNING = "x86-64-v4"  # no instructions are chosen by it, so the name does not matter to those without AVX-512


class _Lower(lowering.Lower):  # type: ignore[misc]  # Numba is untyped
    """Numba's lowering; functions say what they are tuned for. They run on the machine at hand whatever they say."""

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        if self.library.codegen.magic_tuple()[1].startswith(_BADLY_TUNED):
            attribute(self.function, "tune-cpu", _TUNING)


@compiler_machinery.register_pass(mutates_CFG=True, analysis_only=False)
class _NativeLowering(typed_passes.BaseNativeLowering):  # type: ignore[misc]
    """Numba's pass of that name, with `_Lower`."""

    _name = "graphc_native_lowering"

    @property
    def lowering_class(self) -> type:
        return _Lower


class HostCompiler(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's pipeline, but for what functions are tuned for."""

    def define_pipelines(self) -> list[Any]:
        """Numba's passes, one of them our own."""
        pipeline = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [
            (_NativeLowering if each is typed_passes.NativeLowering else each, description)
            for each, description in pipeline.passes
        ]
        pipeline.finalize()
        return [pipeline]


class KernelCompiler(HostCompiler):
    """For kernels: their arrays do not overlap, and straight-line code becomes vector code.

    LLVM cannot know the first (``noalias``), and over ten elements a test for overlap would cost more than vectors
    save. The second (the SLP vectoriser) Numba leaves off, and loops as short as that are unrolled before its loop
    vectoriser sees them. Only for functions none of whose written arrays shares memory with another argument.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.state.flags.noalias = True

    def compile_extra(self, func: Any) -> Any:
        """Compile a function. Numba holds its lock meanwhile: nothing else is compiled with the setting."""
        before = config.SLP_VECTORIZE
        config.SLP_VECTORIZE = 1
        try:
            return super().compile_extra(func)
        finally:
            config.SLP_VECTORIZE = before

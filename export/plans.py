"""Which plans the exporter's writers have."""

from __future__ import annotations

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.plan import DEFAULT_PLAN, HALF_PLANS, INT8_PLAN, Plan, require

__all__ = ["CODEC_PLANS", "PRIOR_PLANS", "TEST_PLAN", "check_codec_plan", "check_denoiser_plan", "check_graph_plan",
           "check_prior_plan"]

PRIOR_PLANS = (DEFAULT_PLAN, *HALF_PLANS, INT8_PLAN)
IDLE = "PyTorch would compute them in float32 and gain nothing"
UNPROVEN = {"bfloat16": "ONNX Runtime runs no bfloat16 on the CPU, so that such files could not be proven"}
CODEC_PLANS = (DEFAULT_PLAN,)
TEST_PLAN = Plan(precision="float64")  # graphs that the tests run in memory, where rounding hides nothing
ADVICE = "choose what it has"


def check_prior_plan(plan: Plan, format: str) -> None:
    """Raise `ModelError` for a plan in which no prior can be exported in this format."""
    require(plan, PRIOR_PLANS, "the export of priors", ModelError, ADVICE)
    if format == "torchscript" and plan == INT8_PLAN:
        raise ModelError(f"the format {format} has no precision 'int8': {IDLE}; choose --format onnx.")
    if format != "torchscript" and plan.precision in UNPROVEN:
        raise ModelError(f"the format {format} has no precision {plan.precision!r}: {UNPROVEN[plan.precision]}; choose "
                         "--format torchscript, or --precision float16.")


def check_graph_plan(plan: Plan) -> None:
    """Raise `ModelError` for a plan that the graphs of a prior cannot be written in, not even for a test."""
    require(plan, (*PRIOR_PLANS, TEST_PLAN), "the ONNX writer", ModelError, ADVICE)


def check_codec_plan(plan: Plan) -> None:
    """Raise `ModelError` for a plan in which no decoder or encoder can be exported."""
    require(plan, CODEC_PLANS, "the export of decoders and encoders", ModelError, ADVICE)


def check_denoiser_plan(plan: Plan) -> None:
    """Raise `ModelError` for a plan in which no denoiser can be exported."""
    require(plan, (DEFAULT_PLAN,), "the export of denoisers", ModelError, ADVICE)

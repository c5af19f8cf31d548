"""The workloads of each target, in the order of their table."""

from benchmarks.workload import Workload
from benchmarks.workloads import (
    adam,
    attention,
    expression,
    gaussian_mixture,
    label_loss,
    layer_norm,
    logistic_epoch,
    matrix_product,
    softmax_regression,
    tanh_network,
    tiny_network,
)

MODULES = (
    tiny_network,
    softmax_regression,
    tanh_network,
    expression,
    layer_norm,
    attention,
    label_loss,
    gaussian_mixture,
    adam,
    logistic_epoch,
)
WORKLOADS: dict[str, Workload] = {workload.name: workload for module in MODULES for workload in module.WORKLOADS}
BY_TARGET = {
    "cpu": WORKLOADS,
    "cuda": {
        workload.name: workload.on_gpu()
        for workload in (*WORKLOADS.values(), *matrix_product.WORKLOADS)
        if workload.gpu is not None
    },
}

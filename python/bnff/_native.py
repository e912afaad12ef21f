"""The C library through ctypes: structures and prototypes of include/bnff, and nothing else.

ctypes releases the interpreter's lock during every call, so other Python threads run while the engine computes.
"""
import ctypes
import os
from ctypes import (CFUNCTYPE, POINTER, Structure, byref, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t,
                    c_uint64, c_void_p, sizeof)

HERE = os.path.dirname(os.path.abspath(__file__))


class Error(RuntimeError):
    """A call of the library failed. `status` is its bnff_status, `hint` the remedy or ''."""

    def __init__(self, status, message, hint):
        super().__init__(f"{message}; {hint}" if hint else message)
        self.status = status
        self.hint = hint


OK, E_ARG, E_SHAPE, E_MEMORY, E_IO, E_FORMAT, E_STATE, E_UNSUPPORTED, E_DIVERGED, E_INTERRUPTED, E_INTERNAL = range(11)
EVALUATE, TRAIN = 0, 1
RESIZE_NEAREST, RESIZE_BILINEAR = 0, 1
IDENTITY, RELU, RELU6, LEAKY_RELU, SILU, HARDSWISH, SIGMOID, HARDSIGMOID, TANH, GELU, ELU, MISH = range(12)


class ErrorStruct(Structure):
    _fields_ = [("status", c_int), ("message", c_char * 1024), ("hint", c_char * 512)]


class ConvOptions(Structure):
    _fields_ = [("out_channels", c_int), ("kernel", c_int * 2), ("stride", c_int * 2), ("padding", c_int * 2), ("dilation", c_int * 2),
                ("groups", c_int), ("bias", c_bool)]


class ConvTransposeOptions(Structure):
    _fields_ = [("out_channels", c_int), ("kernel", c_int * 2), ("stride", c_int * 2), ("padding", c_int * 2), ("output_padding", c_int * 2),
                ("dilation", c_int * 2), ("groups", c_int), ("bias", c_bool)]


class BatchnormOptions(Structure):
    _fields_ = [("eps", c_float), ("momentum", c_float), ("no_affine", c_bool)]


class ScaleOptions(Structure):
    _fields_ = [("weight", c_bool), ("bias", c_bool), ("factor", c_float), ("offset", c_float)]


class PoolOptions(Structure):
    _fields_ = [("kernel", c_int * 2), ("stride", c_int * 2), ("padding", c_int * 2), ("dilation", c_int * 2), ("ceil_mode", c_bool),
                ("exclude_pad", c_bool)]


class ResizeOptions(Structure):
    _fields_ = [("mode", c_int), ("align_corners", c_bool), ("size", c_int * 2), ("scale", c_double * 2)]


class ParamInfo(Structure):
    _fields_ = [("name", c_char_p), ("kind", c_int), ("rank", c_int), ("shape", c_int64 * 4), ("elements", c_int64), ("is_buffer", c_bool)]


class Allocator(Structure):
    _fields_ = [("alloc", c_void_p), ("release", c_void_p), ("user", c_void_p)]


class ContextOptions(Structure):
    _fields_ = [("size", c_size_t), ("threads", c_int), ("max_isa", c_char_p), ("allocator", Allocator), ("parallel", c_void_p),
                ("parallel_user", c_void_p), ("log", c_void_p), ("log_user", c_void_p)]


class PlanOptions(Structure):
    _fields_ = [("size", c_size_t), ("batch", c_int), ("height", c_int), ("width", c_int), ("mode", c_int), ("level", c_char_p),
                ("algorithm", c_char_p), ("cells", c_int), ("frozen_params", POINTER(c_bool)), ("frozen_stats", POINTER(c_bool)),
                ("input_gradients", c_bool), ("input_sizes", POINTER(c_int * 2))]


class PlanInfo(Structure):
    _fields_ = [("size", c_size_t), ("batch", c_int), ("height", c_int), ("width", c_int), ("cells", c_int), ("tasks", c_int),
                ("arena_bytes", c_size_t), ("weight_bytes", c_size_t), ("forward_flops", c_double), ("backward_flops", c_double),
                ("traffic_bytes", c_double), ("batchnorms", c_int), ("batchnorms_fused", c_int), ("line_bytes", c_double)]


class Tensor(Structure):
    """data and the strides of n, h, w, c in floats."""
    _fields_ = [("data", c_void_p), ("stride", ctypes.c_ssize_t * 4)]


class ForwardArgs(Structure):
    _fields_ = [("size", c_size_t), ("inputs", POINTER(Tensor)), ("outputs", POINTER(Tensor)), ("params", POINTER(c_void_p)),
                ("seed", c_uint64), ("step", c_uint64)]


class BackwardArgs(Structure):
    _fields_ = [("size", c_size_t), ("output_gradients", POINTER(Tensor)), ("param_gradients", POINTER(c_void_p)),
                ("input_gradients", POINTER(Tensor)), ("accumulate", c_bool)]


class ModelOptions(Structure):
    _fields_ = [("classes", c_int), ("channels", c_int), ("dropout", c_float)]


class OptimizerOptions(Structure):
    _fields_ = [("size", c_size_t), ("kind", c_int), ("momentum", c_float), ("nesterov", c_bool), ("beta1", c_float), ("beta2", c_float),
                ("eps", c_float), ("weight_decay", c_float), ("norm_weight_decay", c_float), ("bias_weight_decay", c_float)]


def _open():
    names = [os.environ.get("BNFF_LIBRARY"), os.path.join(HERE, "libbnff.so.0"), os.path.join(HERE, "..", "..", "build", "libbnff.so")]
    for name in names:
        if name and os.path.exists(name):
            return ctypes.CDLL(name)
    raise ImportError("bnff: the C library is not beside the package; install it with 'pip install .', or name it in BNFF_LIBRARY")


lib = _open()


def _declare(name, result, *arguments):
    function = getattr(lib, name)
    function.restype = result
    function.argtypes = arguments
    return function


def _checked(name, *arguments):
    """A function that returns bnff_status and takes a bnff_error * last: raises Error instead."""
    function = _declare(name, c_int, *arguments, POINTER(ErrorStruct))

    def call(*values):
        error = ErrorStruct()
        status = function(*values, byref(error))
        if status != OK:
            raise Error(status, error.message.decode("utf-8", "replace"), error.hint.decode("utf-8", "replace"))

    call.__name__ = name
    return call


Handle = c_void_p
Out = POINTER(c_void_p)
Value = c_int32

version = _declare("bnff_version", c_char_p)
free = _declare("bnff_free", None, c_void_p)
default_level = _declare("bnff_default_level", c_char_p)
level_name = _declare("bnff_level_name", c_char_p, c_int)

context_create = _checked("bnff_context_create", POINTER(ContextOptions), Out)
context_destroy = _declare("bnff_context_destroy", None, Out)
context_threads = _declare("bnff_context_threads", c_int, Handle)
context_isa = _declare("bnff_context_isa", c_char_p, Handle)

measure_fma = _declare("bnff_measure_fma", c_double, Handle, c_double)

graph_create = _checked("bnff_graph_create", Out)
graph_destroy = _declare("bnff_graph_destroy", None, Out)
graph_status = _checked("bnff_graph_status", Handle)
graph_param_count = _declare("bnff_graph_param_count", c_int, Handle)
graph_param = _declare("bnff_graph_param", c_bool, Handle, c_int, POINTER(ParamInfo))
graph_find_param = _declare("bnff_graph_find_param", c_int, Handle, c_char_p)
graph_print = _checked("bnff_graph_print", Handle, Out)
value_channels = _declare("bnff_value_channels", c_int, Handle, Value)

input_sized = _declare("bnff_input_sized", Value, Handle, c_char_p, c_int, c_int, c_int)
conv2d = _declare("bnff_conv2d", Value, Handle, c_char_p, Value, POINTER(ConvOptions))
conv_transpose2d = _declare("bnff_conv_transpose2d", Value, Handle, c_char_p, Value, POINTER(ConvTransposeOptions))
batchnorm = _declare("bnff_batchnorm", Value, Handle, c_char_p, Value, POINTER(BatchnormOptions))
activate = _declare("bnff_activate", Value, Handle, Value, c_int, c_float)
maxpool = _declare("bnff_maxpool", Value, Handle, Value, POINTER(PoolOptions))
avgpool = _declare("bnff_avgpool", Value, Handle, Value, POINTER(PoolOptions))
adaptive_avgpool = _declare("bnff_adaptive_avgpool", Value, Handle, Value, c_int, c_int)
adaptive_maxpool = _declare("bnff_adaptive_maxpool", Value, Handle, Value, c_int, c_int)
add = _declare("bnff_add", Value, Handle, Value, Value)
mul = _declare("bnff_mul", Value, Handle, Value, Value)
scale = _declare("bnff_scale", Value, Handle, c_char_p, Value, POINTER(ScaleOptions))
mul_gate = _declare("bnff_mul_gate", Value, Handle, Value, Value)
concat = _declare("bnff_concat", Value, Handle, POINTER(Value), c_int)
slice = _declare("bnff_slice", Value, Handle, Value, c_int, c_int)
channel_shuffle = _declare("bnff_channel_shuffle", Value, Handle, Value, c_int)
resize = _declare("bnff_resize", Value, Handle, Value, POINTER(ResizeOptions))
linear = _declare("bnff_linear", Value, Handle, c_char_p, Value, c_int, c_bool)
output = _declare("bnff_output", None, Handle, Value)

plan_create = _checked("bnff_plan_create", Handle, Handle, POINTER(PlanOptions), Out)
plan_destroy = _declare("bnff_plan_destroy", None, Out)
plan_describe = _declare("bnff_plan_describe", None, Handle, POINTER(PlanInfo))
plan_print = _checked("bnff_plan_print", Handle, c_bool, Out)
plan_output_shape = _declare("bnff_plan_output_shape", c_bool, Handle, c_int, c_int * 4)
pool_create = _checked("bnff_pool_create", Handle, Out)
pool_destroy = _declare("bnff_pool_destroy", None, Out)
run_acquire = _checked("bnff_run_acquire", Handle, Handle, Out)
run_release = _declare("bnff_run_release", None, Out)
forward = _checked("bnff_forward", Handle, POINTER(ForwardArgs))
backward = _checked("bnff_backward", Handle, POINTER(BackwardArgs))

model_build = _checked("bnff_model_build", Handle, c_char_p, POINTER(ModelOptions))
state_create = _checked("bnff_state_create", Handle, Out)
state_destroy = _declare("bnff_state_destroy", None, Out)
state_params = _declare("bnff_state_params", POINTER(c_void_p), Handle)
state_batches = _declare("bnff_state_batches", POINTER(c_int64), Handle, c_int)
state_count_batch = _declare("bnff_state_count_batch", None, Handle, POINTER(c_bool))
state_init = _checked("bnff_state_init", Handle, c_char_p, c_uint64)
softmax_cross_entropy = _checked("bnff_softmax_cross_entropy", c_void_p, c_int, c_int, c_void_p, c_void_p, c_float, POINTER(c_double), c_void_p)
optimizer_create = _checked("bnff_optimizer_create", Handle, Handle, POINTER(OptimizerOptions), POINTER(c_bool), Out)
optimizer_destroy = _declare("bnff_optimizer_destroy", None, Out)
optimizer_step = _declare("bnff_optimizer_step", None, Handle, POINTER(c_void_p), POINTER(c_void_p), c_double, c_double)

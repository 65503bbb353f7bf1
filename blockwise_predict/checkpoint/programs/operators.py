"""Operators that a program in a file may use: they compute values from values, and nothing else.

torch registers more than two thousand operators. Some of them write or map files (`aten::save`,
`aten::from_file`), talk to other machines (`c10d`, `rpc`), or take sizes and offsets that they do
not check. A program that names an operator which is not listed here is not loaded.
"""

from __future__ import annotations

_CONVOLUTION = """
_convolution_mode _convolution conv1d conv2d conv3d conv_transpose1d conv_transpose2d
conv_transpose3d convolution
linear addmm addmv addbmm baddbmm bmm mm mv matmul dot einsum outer bilinear tensordot
"""
_POOLING = """
max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d
avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d lp_pool1d lp_pool2d lp_pool3d max_unpool2d max_unpool3d max_pool1d_with_indices
"""
_NORMALISATION = """
batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit native_batch_norm
instance_norm group_norm native_group_norm layer_norm native_layer_norm rms_norm normalize norm
linalg_norm linalg_vector_norm local_response_norm dropout alpha_dropout feature_dropout
feature_alpha_dropout dropout2d dropout3d cudnn_batch_norm miopen_batch_norm frobenius_norm
_batch_norm_impl_index scaled_dot_product_attention _native_multi_head_attention
renorm cosine_similarity
"""
_ACTIVATION = """
relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid log_sigmoid logsigmoid
hardsigmoid hardswish hardtanh softplus softsign softmin softmax log_softmax _softmax _log_softmax
softshrink hardshrink tanhshrink threshold tanh sinh cosh sin cos tan asin acos atan atan2 asinh
acosh atanh exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal pow square abs absolute neg
negative sign sgn erf erfc erfinv floor ceil round trunc frac clamp clamp_min clamp_max clip
nan_to_num lgamma digamma logit sinc softplus glu heaviside positive
"""
_ARITHMETIC = """
add sub subtract mul multiply div divide true_divide floor_divide remainder fmod rsub lerp addcmul
addcdiv maximum minimum fmax fmin max min amax amin aminmax sum mean median nanmedian mode std var
std_mean var_mean prod logsumexp cumsum cumprod cummax cummin argmax argmin all any count_nonzero
sort argsort topk where masked_fill masked_select eq ne lt le gt ge greater greater_equal less
less_equal not_equal logical_and logical_or logical_not logical_xor bitwise_and bitwise_or
bitwise_not bitwise_xor isnan isinf isfinite isclose allclose equal diff dist cdist floordiv
hypot logaddexp logaddexp2 is_nonzero item numpy_T square
"""
_SHAPE = """
cat concat concatenate stack hstack vstack dstack split split_with_sizes chunk tensor_split unbind
view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze permute transpose t
movedim moveaxis swapaxes swapdims expand expand_as repeat repeat_interleave tile narrow select
slice index index_select gather scatter scatter_add take take_along_dim masked_scatter flip fliplr
flipud roll rot90 pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
replication_pad1d replication_pad2d replication_pad3d circular _pad_circular _pad_enum contiguous
clone detach alias pixel_shuffle pixel_unshuffle channel_shuffle unfold fold im2col col2im meshgrid
tril triu diagonal diag _reshape_alias _unsafe_view broadcast_to broadcast_tensors size stride dim
numel ndimension sym_size sym_numel sym_stride is_floating_point is_complex embedding one_hot
nonzero lift_fresh_copy lift_fresh copy _assert_async narrow_copy unsafe_chunk unsafe_split
expand_copy slice_scatter select_scatter index_put unsqueeze_copy view_copy
"""
_UPSAMPLING = """
interpolate upsample __interpolate __upsample upsample_nearest1d upsample_nearest2d
upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa grid_sample
affine_grid affine_grid_generator grid_sampler grid_sampler_2d grid_sampler_3d
"""
_MAKING = """
zeros ones full arange linspace eye tensor scalar_tensor zeros_like ones_like full_like empty
empty_like new_zeros new_ones new_full new_empty to type_as float double half int long bool
bfloat16 byte char short cpu cuda _to_copy as_tensor asarray fill zero rand_like randn_like
bernoulli rand randn
"""
# Of the language of TorchScript: numbers, texts and lists.
_LANGUAGE = """
len range list append extend insert pop clear copy index count remove reverse sort keys values
items get setdefault update contains __contains__ __getitem__ __is__ __isnot__ __not__ __and__
__or__ __xor__ __lshift__ __rshift__ _set_item __range_length __derive_index Int Float Bool
IntImplicit FloatImplicit ScalarImplicit Complex ComplexImplicit str ord chr hex oct bin bool int
float round ceil floor sqrt pow gcd factorial log exp isnan isinf format join strip lstrip rstrip
split upper lower capitalize find rfind replace startswith endswith isdigit isalpha isupper islower
center ljust rjust zfill warn fabs copysign degrees radians sum max min abs divmod mathremainder
RaiseException NumToTensor TupleIndex TupleUnpack Uninitialized unchecked_cast
unchecked_unwrap_optional dtype device layout type data is_cuda is_cpu is_meta is_quantized
is_sparse is_mkldnn requires_grad itemsize min max abs rangelist tolist IfThenElse name id
percentFormat is_scripting is_grad_enabled is_autocast_enabled is_autocast_cpu_enabled
is_contiguous get_device annotate pin_memory
"""


def _names(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


_FUNCTIONAL = _names(
    *(_CONVOLUTION, _POOLING, _NORMALISATION, _ACTIVATION),
    *(_ARITHMETIC, _SHAPE, _UPSAMPLING, _MAKING),
)
# Those that end with an underscore change a tensor of the program's own in place.
TENSOR_OPERATORS = _FUNCTIONAL | {f"{name}_" for name in _FUNCTIONAL}
"""Operators on tensors, by their names without namespace and overload."""

SCRIPT_OPERATORS = TENSOR_OPERATORS | _names(_LANGUAGE)
"""The same, and those of the language of TorchScript."""

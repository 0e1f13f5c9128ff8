"""What would work instead of an operator that cannot be imported."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_ACTIVATION = "this activation cannot be imported: train with ReLU or LeakyReLU in its place"
_RECURRENT = "recurrent layers cannot be imported: only feed-forward chains; use convolutions and a pool over time"
_NORM = "it computes statistics of every clip: use BatchNorm, whose statistics are frozen after training"
_QUANTISED = "quantised data cannot be imported: export the float model; the compiler quantises it by itself"
_ATTENTION = "attention multiplies data by data: use convolutions and a pool over time"
_CONTROL = "control flow cannot be imported: export a model without loops and conditions"
_CLASSIFIER = "it is made by a classifier's converter: export the neural network alone, down to its logits"
_SPLIT = "it makes branches: models with branches cannot be imported, only chains of layers"
_UNARY = "this function of data cannot be imported: use ReLU or LeakyReLU; features may hold it, computed in the clear"

_POOL = "only a mean, a sum or a maximum over time can be imported: pool with one of them"
_LONGER = "layers that make the signal longer cannot be imported: use convolutions and pools"
_LOGITS = "export the model down to its logits; the largest is found under encryption"
_FEATURES = "features are computed in the clear: export the model behind them, from features to logits"
_COPIES = "it repeats data, which no layer of a chain does: feed the longer tensor as features"
_PICKING = "picking data by index cannot be imported: use a pool, or a slice before a dense layer"

_GROUPS = (
    (
        _ACTIVATION,
        "Tanh Elu Selu Celu Gelu Silu Swish Mish HardSwish HardSigmoid Softplus Softsign Shrink Erf ThresholdedRelu",
    ),
    (_RECURRENT, "LSTM GRU RNN Scan"),
    (_NORM, "InstanceNormalization LayerNormalization GroupNormalization RMSNormalization LpNormalization LRN"),
    (_NORM, "MeanVarianceNormalization"),
    (_QUANTISED, "QLinearConv QLinearMatMul ConvInteger MatMulInteger QuantizeLinear DynamicQuantizeLinear"),
    (_QUANTISED, "DequantizeLinear"),
    (_ATTENTION, "Attention MultiHeadAttention RotaryEmbedding Einsum"),
    (_CONTROL, "If Loop SequenceConstruct SequenceAt SplitToSequence"),
    (_CLASSIFIER, "ZipMap TreeEnsembleClassifier LinearClassifier SVMClassifier Normalizer LabelEncoder"),
    (_CLASSIFIER, "ArrayFeatureExtractor Scaler Imputer OneHotEncoder"),
    (_SPLIT, "Split Sum Mean"),
    (_UNARY, "Sqrt Exp Log Sin Cos Reciprocal Floor Ceil Round Sign Min Where Greater Less Equal Not Mod"),
    (_POOL, "LpPool GlobalLpPool MaxRoiPool MaxUnpool"),
    (_POOL, "ReduceMin ReduceL1 ReduceL2 ReduceProd ReduceLogSumExp ReduceSumSquare"),
    (_LONGER, "ConvTranspose Upsample Resize"),
    (_LOGITS, "TopK Hardmax NonMaxSuppression"),
    (_FEATURES, "STFT DFT MelWeightMatrix"),
    (_COPIES, "Tile"),
    (_PICKING, "GatherND GatherElements ScatterND ScatterElements Compress"),
)

WORKS_INSTEAD: Mapping[str, str] = MappingProxyType({op: hint for hint, ops in _GROUPS for op in ops.split()})
UNKNOWN = (
    "this operator cannot be imported. A model may hold Conv1d, Linear, ReLU, LeakyReLU, max, average and global "
    "pools, BatchNorm, arithmetic with constants, reshapes and transposes, and Softmax or ArgMax at its end"
)
DOMAIN = (
    "operators outside the ONNX standard cannot be imported: export without custom operators and functions, "
    "torch.onnx.export(model.eval(), …, dynamo=True, optimize=True)"
)

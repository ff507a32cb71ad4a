"""Class shares: categories as the share of each class among their rows.

It is scikit-learn's TargetEncoder of several classes, with a form in ONNX that
the converter lacks: a table with a row a code and a column a class.
"""

import numpy as np
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import TargetEncoder
from sklearn.utils.validation import check_is_fitted


class ClassShares(TransformerMixin, BaseEstimator):
    """Codes of categories as the share of each class, cross-fitted.

    Parameters
    ----------
    cv : splitter
        Into the parts of the cross-fit: a row is encoded by the others.

    Notes
    -----
    A code is a whole number from -1 (missing); one that was not seen has the
    shares of all rows.
    """

    def __init__(self, cv):
        self.cv = cv

    def fit(self, X: np.ndarray, y: np.ndarray) -> "ClassShares":
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        # an encoder a class: scikit-learn's own of several stops where a part lacks one
        places = np.unique(y)
        self.encoders_ = [TargetEncoder(target_type="binary", cv=self.cv) for _ in places]
        return np.hstack(
            [e.fit_transform(X, y == k) for e, k in zip(self.encoders_, places, strict=True)]
        )

    def transform(self, X: np.ndarray) -> np.ndarray:
        check_is_fitted(self)
        return np.hstack([encoder.transform(X) for encoder in self.encoders_])

    def tables(self) -> list[np.ndarray]:
        """For each class float32 shares, shape (codes + 2, columns): missing first, not seen last."""
        most = max(int(max(codes, default=-1)) for codes in self.encoders_[0].categories_)
        tables = []
        for encoder in self.encoders_:
            table = np.full((most + 3, len(encoder.categories_)), encoder.target_mean_, np.float32)
            for column, (codes, shares) in enumerate(
                zip(encoder.categories_, encoder.encodings_, strict=True)
            ):
                table[np.asarray(codes, np.intp) + 1, column] = shares
            tables.append(table)
        return tables


def _shape(operator) -> None:
    rows, columns = operator.inputs[0].type.shape
    width = columns * len(operator.raw_operator.encoders_)
    operator.outputs[0].type = FloatTensorType([rows, width])


def _convert(scope, operator, container) -> None:
    tables = operator.raw_operator.tables()

    def node(kind: str, inputs: list[str], output: str = "", **attributes) -> str:
        made = output or scope.get_unique_variable_name(kind.lower())
        name = scope.get_unique_operator_name(kind)
        container.add_node(kind, inputs, made, name=name, **attributes)
        return made

    def constant(kind: int, shape: list[int], values: list) -> str:
        made = scope.get_unique_variable_name("shares")
        container.add_initializer(made, kind, shape, values)
        return made

    one, least = (constant(TensorProto.FLOAT, [], [value]) for value in (1.0, 0.0))
    most = constant(TensorProto.FLOAT, [], [float(len(tables[0]) - 1)])
    code = node("Add", [operator.inputs[0].full_name, one], op_version=14)
    code = node("Min", [node("Max", [code, least], op_version=13), most], op_version=13)
    row = node("Cast", [code], to=TensorProto.INT64, op_version=13)
    parts = []
    for table in tables:
        shares = constant(TensorProto.FLOAT, list(table.shape), table.ravel().tolist())
        parts.append(node("GatherElements", [shares, row], axis=0, op_version=13))
    node("Concat", parts, operator.outputs[0].full_name, axis=1, op_version=13)


update_registered_converter(ClassShares, "LoopbookClassShares", _shape, _convert)

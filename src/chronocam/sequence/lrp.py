"""Layer-wise relevance propagation."""

from dataclasses import dataclass
from typing import ClassVar

from chronocam.errors import check_real
from chronocam.sequence.base import SequenceMethod
from chronocam.sequence.sample import Attribution, Sample


@dataclass(kw_only=True, eq=False)
class LRP(SequenceMethod):
    """Layer-wise relevance propagation through LSTM, GRU, linear layers, attention pooling and activations.

    epsilon: the stabiliser ε of the linear rule, with s(z) = sign(z) and s(0) = +1:
        R_i = Σ_j w_ij x_i / (z_j + ε s(z_j)) · R_j for z_j = Σ_i w_ij x_i + b_j.

    A gate gets no relevance, what it is multiplied with gets all: sigmoid and softmax are held constant, so
    that i, f, o of an LSTM, r, z of a GRU and the weights of attention get none. The cell
    `c_t = f⊙c_{t−1} + i⊙g` of an LSTM and the state `h_t = (1−z)⊙n + z⊙h_{t−1}` of a GRU share theirs by the
    linear rule, and so do the pre-activations of g and n over x_t, h_{t−1} and their biases (U h_{t−1} + b
    weighted by r in a GRU). Activations with f(0) = 0 pass relevance unchanged. Means, weighted sums and the
    choice of steps share exactly, without ε.

    The ledger is complete: score = input + initial_state + bias + stabiliser. Neither biases nor ε give
    anything back to the features. At ε = 0 relevance is gradient × input of the network with those factors
    held constant.

    Runs the model's own modules; supports `nn.LSTM`, `nn.GRU`, `nn.RNN` (stacked, bidirectional, packed, with
    projections), their cells, linear and convolutional layers, LayerNorm, BatchNorm; in Keras LSTM, GRU and
    SimpleRNN, their cells, bidirectional, masked and stateful ones, layers and the operations of functional
    models, and `Attention`. Other layers can be given a rule: `cc.sequence.register_rule`. Raises
    ModelError for dropout in training mode, and operations between the features and the score for which
    relevance does not add up.

    Source: Arras et al. 2017 (arXiv:1706.07206), section 3.2, with δ = 0; Ali et al. 2022 (arXiv:2202.07304)
    for LayerNorm and attention; the rule for GRU applies the same principle.

    Example:
        >>> explanation = cc.sequence.LRP(rnn).explain(features, 0)
        >>> bool(abs(sum(explanation.ledger.values()) - explanation.scores).max() < 1e-6)
        True
    """

    epsilon: float = 1e-3
    name: ClassVar[str] = "lrp"

    def __post_init__(self) -> None:
        check_real("epsilon", self.epsilon, "a number from 0, such as 0.001")
        super().__post_init__()

    def attribute(self, sample: Sample) -> Attribution:
        """Return relevance and its ledger."""
        return sample.propagated(float(self.epsilon))

"""What the page says around its tables."""

HEAD = """# Claims about maps of video networks

Written by `benchmarks/claims_video.py`; the commands that trained the networks stand below. Every number is in
[claims.json](claims.json), for each trained network by itself too. In brackets are 95 % intervals; a word of comparison
stands where the whole interval of the difference says so, else two things cannot be told apart.

## Findings

"""

HOW = """
## How it was measured

- Networks: {seeds} trainings of each of `r3d` (convolutions over space and time), `cnn-lstm` (convolutions on every
  frame, an LSTM, its last state) and `cnn-lstm-attention` (the same, with attention over the LSTM's states). Stage 1 is
  the first convolution, stage 4 the last.
- Clips: 16 frames of 64², rendered (`chronocam.data.gestures`, split `test`, seed {seed}): persons and photographs that
  training never showed. {answers:,} clips of one actor for accuracy, the first {maps} of them for maps, {pairs} of two
  actors who do different things at overlapping times (training showed one actor), {faithful} for insertion, deletion
  and randomisation.
- Intervals are 95 % percentile bootstrap intervals over 2,000 resamples, of clips and of trained networks, both. Three
  trainings are few: an interval says little about a tenth one. Differences are paired by clip, and by network where the
  networks are the same. "Cannot be told apart" means that the interval of the difference holds 0. Intervals are not
  corrected for how many there are.
- Maps are of the true class, with half-pixel alignment and each design's usual pooling (r3d: clip, the others: frame)
  unless said otherwise; they are judged at the size of the clip, 16 × 64 × 64. `truth` is the action's mask averaged
  onto the grid of a layer and upsampled again: what a faultless map of that grid looks like. Random maps are noise on
  that grid, upsampled by the same code; frame difference is how much each pixel differs from the frame before.
- energy: share of the map inside the action's mask (the acting arms or the mouth, while they act), over all frames.
  pointing: whether the maximum over space and time lies inside. figure, pointing figure: the same for the whole actor
  on all frames. frame pointing: pointing frame by frame, on frames on which the action is seen. IoU: of the largest
  region above 15 % of the maximum with the mask. time IoU, time AUC: of the frame-importance curve with the active
  frames (frames above half of the maximum; area under the ROC curve, 0.5 for chance).
- torch {torch}, {machine}. The networks were trained by

{commands}
"""

ACCURACY = """## 1. Accuracy

The share of clips whose class is named, and that of every training by itself:
"""

ORDER = """Of the {clips} clips of `raise` and `lower`, which are each other with the frames in reverse, the share that
is named right as filmed, with the frames in another order (the mean of two random ones), with the middle frame only,
and reversed (under the name that the clip had, and under its mirror's):
"""

ATTENTION_HELPS = """## 2. Does attention over the frames help?

Grad-CAM at the last stage; the difference is attention's gain. Clips named right are the {kept} that all networks of
both designs name right.
"""

WEIGHTS = """## 3. Are attention weights high on the active frames?

AUC of per-frame values as a detector of active frames. Contributions are those to the true class; on clips of two
actors, to the class of each, the likelier or the other one by its score. The last column takes only frames on which one
of the two acts: those of the class's own actor against those of the other. Weights, the same for both classes, have 0.5
there by construction.
"""

PHASES = """Shares of the weights, and of frame importance, before, during and after the action; those of a random map
are the shares of the frames:
"""

AGREEMENT = """Rank correlation over the frames of contributions with weights: {agreement}.

Maps with gradients through the weights, and with the weights held constant:
"""

TWO_ACTORS = """## 4. Two actors: does the map for the other class find the other actor?

Energy on the whole figure of the actor whose class is explained (own) and of the other one (wrong); own share = own /
(own + wrong), 0.5 for a map that tells nothing; own action: energy inside the mask of the own action; time AUC apart:
of frame importance, frames on which only the own actor acts against those of the other only. The classes of both actors
have the two highest scores in a share of the clips: {top}.
"""

DESIGNS = """## 5. Does the 3D network follow the same pattern?

Contrasts of Grad-CAM at the last stage, on the same clips for all:
"""

VALUES = """Values; those of the truth and of maps that no network has a part in stand in section 6.
"""

DEPTH = """## 6. Localisation against the depth of the layer

The last two columns are differences from the random map on the same grid.
"""

ALIGNMENT = """## 7. Half-pixel against receptive-field alignment

Grad-CAM; receptive field − half pixel: the same maps laid on the clip in two ways. For frames that a 2D network saw
one by one only the place differs, not the time.
"""

POOLING = """## 8. Weights of the clip against weights of each frame

Grad-CAM; weights per clip − weights per frame. Where an average over the grid and a linear layer follow, as after the
last stage of r3d, the two are the same map.
"""

FLICKER = """## 9. Flicker, insertion and deletion, randomised networks

Flicker: mean change from frame to frame over the mean value, at the size of the clip; a map that follows a short event
flickers rightly, as the truth does.
"""

FAITHFUL = """Area under the probability of the true class as the most relevant cells of space and time come to a
blurred clip (insertion) or go (deletion), and as frames do (a missing frame shows the last one that is there), in
{steps} steps; and Grad-CAM's gain in their difference over maps that know nothing:
"""

MADE_RANDOM = """Likeness of Grad-CAM at the last stage to itself after the parts of the network, from the output down
to the one named, were made random; a map in brackets takes its place instead:
"""

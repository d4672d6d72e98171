"""The specimens: one paper, one file. HEADS is the table of contents, name -> class."""

from collections.abc import Mapping

from heads.balanced_softmax import BalancedSoftmax
from heads.base import Head
from heads.crt import CRT
from heads.disalign import DisAlign
from heads.dl2pa import DL2PA
from heads.dnc import DNC
from heads.dro_lt import DROLT
from heads.ebv import EBV
from heads.etf import ETF
from heads.fixed import Fixed
from heads.focal import Focal
from heads.goto import Goto
from heads.hpn import HPN
from heads.kasarla import Kasarla
from heads.ldam import LDAM
from heads.logit_adjustment import LogitAdjustment
from heads.max_norm import MaxNorm
from heads.ncm import NCM
from heads.one_hot import OneHot
from heads.paco import PaCo
from heads.prototypes import Prototypes
from heads.psc import PSC
from heads.ride import RIDE
from heads.tau_norm import TauNorm
from heads.word2vec import Word2Vec

HEADS: Mapping[str, type[Head]] = {
    "balanced_softmax": BalancedSoftmax,  # counts in the softmax: Ren et al., arXiv:2007.10740
    "crt": CRT,  # a fresh classifier on frozen features: Kang et al., arXiv:1910.09217
    "disalign": DisAlign,  # frozen logits, scaled and shifted: Zhang et al., arXiv:2103.16370
    "dl2pa": DL2PA,  # labels move among fixed points: Saadabadi et al., arXiv:2403.16937
    "dnc": DNC,  # nearest sub-centroid, clustered: Wang et al., arXiv:2209.07383
    "dro_lt": DROLT,  # balls around the class means: Samuel and Chechik, arXiv:2104.03066
    "ebv": EBV,  # fixed, nearly orthogonal vectors: Shen et al., arXiv:2303.11637
    "etf": ETF,  # fixed simplex, dot regression: Yang et al., arXiv:2203.09081
    "fixed": Fixed,  # fixed points, cross-entropy: Table 9 of Saadabadi et al., arXiv:2403.16937
    "focal": Focal,  # hard examples weigh more: Lin et al., arXiv:1708.02002
    "goto": Goto,  # a subspace per class, our reading of Goto et al., see arXiv:2403.16937
    "hpn": HPN,  # fixed points of largest separation: Mettes et al., arXiv:1901.10514
    "kasarla": Kasarla,  # closed-form simplex, softmax: Kasarla et al., arXiv:2206.08704
    "ldam": LDAM,  # margins by class, deferred weights: Cao et al., arXiv:1906.07413
    "logit_adjustment": LogitAdjustment,  # prior in the logits: Menon et al., arXiv:2007.07314
    "max_norm": MaxNorm,  # trained weights in a ball: Alshammari et al., arXiv:2203.14197
    "ncm": NCM,  # nearest class mean, nothing to train: Kang et al., arXiv:1910.09217
    "one_hot": OneHot,  # one axis per class, baseline of Mettes et al., arXiv:1901.10514
    "paco": PaCo,  # contrast with learned centres: Cui et al., arXiv:2107.12028
    "prototypes": Prototypes,  # learned from class means on: Sharma et al., arXiv:2302.00491
    "psc": PSC,  # learned softmax: Boudiaf et al., arXiv:2003.08983
    "ride": RIDE,  # experts that are to disagree: Wang et al., arXiv:2010.01809
    "tau_norm": TauNorm,  # weights over a power of their length: Kang et al., arXiv:1910.09217
    "word2vec": Word2Vec,  # vectors of the class names: Mikolov et al., arXiv:1301.3781
}

"""The specimens: one paper, one file. HEADS is the table of contents, name -> class."""

from collections.abc import Mapping

from heads.base import Head
from heads.dl2pa import DL2PA
from heads.dnc import DNC
from heads.ebv import EBV
from heads.etf import ETF
from heads.fixed import Fixed
from heads.goto import Goto
from heads.hpn import HPN
from heads.kasarla import Kasarla
from heads.ncm import NCM
from heads.one_hot import OneHot
from heads.psc import PSC
from heads.word2vec import Word2Vec

HEADS: Mapping[str, type[Head]] = {
    "dl2pa": DL2PA,  # labels move among fixed points: Saadabadi et al., arXiv:2403.16937
    "dnc": DNC,  # nearest sub-centroid, clustered: Wang et al., arXiv:2209.07383
    "ebv": EBV,  # fixed, nearly orthogonal vectors: Shen et al., arXiv:2303.11637
    "etf": ETF,  # fixed simplex, dot regression: Yang et al., arXiv:2203.09081
    "fixed": Fixed,  # fixed points, cross-entropy: Table 9 of Saadabadi et al., arXiv:2403.16937
    "goto": Goto,  # a subspace per class, our reading of Goto et al., see arXiv:2403.16937
    "hpn": HPN,  # fixed points of largest separation: Mettes et al., arXiv:1901.10514
    "kasarla": Kasarla,  # closed-form simplex, softmax: Kasarla et al., arXiv:2206.08704
    "ncm": NCM,  # nearest class mean, nothing to train: Kang et al., arXiv:1910.09217
    "one_hot": OneHot,  # one axis per class, baseline of Mettes et al., arXiv:1901.10514
    "psc": PSC,  # learned softmax: Boudiaf et al., arXiv:2003.08983
    "word2vec": Word2Vec,  # vectors of the class names: Mikolov et al., arXiv:1301.3781
}

"""The specimens: one paper, one file. HEADS is the table of contents, name -> class."""

from collections.abc import Mapping

from heads.base import Head
from heads.dl2pa import DL2PA
from heads.etf import ETF
from heads.hpn import HPN
from heads.ncm import NCM
from heads.psc import PSC

HEADS: Mapping[str, type[Head]] = {
    "dl2pa": DL2PA,  # labels move among fixed points: Saadabadi et al., arXiv:2403.16937
    "etf": ETF,  # fixed simplex, dot regression: Yang et al., arXiv:2203.09081
    "hpn": HPN,  # fixed points of largest separation: Mettes et al., arXiv:1901.10514
    "ncm": NCM,  # nearest class mean, nothing to train: Kang et al., arXiv:1910.09217
    "psc": PSC,  # learned softmax: Boudiaf et al., arXiv:2003.08983
}

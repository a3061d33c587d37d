"""x"""
import math
import torch
def sample(count, *, seed, noise=0.1):
    g=torch.Generator().manual_seed(seed)
    t=torch.rand(count,generator=g,dtype=torch.float64)*math.pi*1.5
    x=torch.stack([t.cos(),t.sin()],1)
    A=torch.tensor([[1.25,1],[1,1.25]],dtype=torch.float64)
    return x, x@A.T+noise*torch.randn(count,2,generator=g,dtype=torch.float64)

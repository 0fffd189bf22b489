import torch
from torch import nn

from segframe.models.probe import drop_unused_parameters, measure_stride


class Wasteful(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.in_vain = nn.Conv2d(3, 4, 1)
        self.never = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, image):
        self.in_vain(image)
        return [self.used(image)]


def test_parameters_without_a_gradient_are_taken_out():
    torch.manual_seed(0)
    net, image = Wasteful(), torch.randn(1, 3, 8, 8)
    expected, names = net(image)[0], set(net.state_dict())

    taken = drop_unused_parameters(net, 3, lambda n, x: n(x))

    assert {name.split(".")[0] for name in taken} == {"in_vain", "never", "scale"}
    assert [name for name, _ in net.named_parameters()] == ["used.weight", "used.bias"]
    assert set(net.state_dict()) == {name for name in names if not name.startswith("never")}
    assert torch.equal(net(image)[0], expected)


def test_stride_is_measured_without_the_border_of_unpadded_convolutions():
    net = nn.Sequential(nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 3, stride=4))
    assert measure_stride(net, 1, lambda n, x: [n(x)]) == 4

"""Small networks of a user's own, importable so that they can be pickled."""

import torch
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """One convolution, pooling and a linear layer."""

    def __init__(self, in_channels: int = 3, n_classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 6, kernel_size=3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(6, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.pool(torch.relu(self.conv(x))).flatten(1))


class GreyCNN(SmallCNN):
    """For images of one channel."""

    def __init__(self) -> None:
        super().__init__(in_channels=1)


class ChannelsLast(nn.Module):
    """Its block puts out (batch, height, width, channels), as Swin transformers do."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.block = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2)))


class Projected(SmallCNN):
    """Part of it is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(4, 4), persistent=False)
        self.scale = torch.rand(4)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) @ self.projection * self.scale


class InPlace(nn.Module):
    """A layer whose output the next layer overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv(x)).mean((2, 3)))


class Repeated(nn.Module):
    """One module that runs three times in a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.conv(x)
        return self.head(x.mean((2, 3)))


class Unconvertible(SmallCNN):
    """Uses an operation that OpenVINO lacks."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.special.bessel_j0(x))


class TwoStages(nn.Module):
    """Two convolutions with batch norm, dropout, and a classifier: for 16 x 16 grey images."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.second = nn.Sequential(
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1)
        )
        self.head = nn.Linear(16 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).flatten(1))


def slow_sgd(parameters, lr: float) -> torch.optim.Optimizer:
    """An optimizer of a user's own, as a function."""
    return torch.optim.SGD(parameters, lr=lr / 10)

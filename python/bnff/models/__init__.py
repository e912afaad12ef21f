"""DenseNet, ResNet and VGG as torch modules, written from the papers with torchvision's names: for measuring where torchvision is not."""
from .densenet import DenseNet, densenet121
from .resnet import ResNet, resnet18, resnet50, resnext50_32x4d, vgg11_bn, wide_resnet50_2

__all__ = ["DenseNet", "ResNet", "densenet121", "resnet18", "resnet50", "resnext50_32x4d", "vgg11_bn", "wide_resnet50_2"]

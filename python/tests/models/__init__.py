"""Networks written from their papers with torchvision's names of parameters, so that tests need no torchvision."""
from bnff.models import DenseNet, densenet121, resnet18, resnet50, resnext50_32x4d, vgg11_bn, wide_resnet50_2
from .inception import googlenet, inception_v3
from .mobile import efficientnet_b0, mnasnet1_0, mobilenet_v2, mobilenet_v3_small, regnet_y_400mf, shufflenet_v2_x1_0, squeezenet1_1
from .other import Branches, UNet, UNetBilinear

# Numbers of parameters that torchvision documents, with 1000 classes.
PARAMETERS = {
    densenet121: 7978856, resnet18: 11689512, resnet50: 25557032, wide_resnet50_2: 68883240, resnext50_32x4d: 25028904, vgg11_bn: 132868840,
    mobilenet_v2: 3504872, mobilenet_v3_small: 2542856, efficientnet_b0: 5288548, shufflenet_v2_x1_0: 2278604, squeezenet1_1: 1235496,
    googlenet: 13004888, regnet_y_400mf: 4344144, mnasnet1_0: 4383312, inception_v3: 27161264,
}

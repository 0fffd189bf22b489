import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import save_file

from segframe.models.backbone import build_encoder
from segframe.models.pspnet import PSPNet
from segframe.models.segnet import SegNet
from segframe.models.zoo import Zoo


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(
    "name",
    [
        "densenet121",
        "mobilenet_v2",
        "efficientnet-b0",
        "tu-test_convnext",
        "tu-test_efficientnet",
        "mit_b0",
    ],
)
def test_output_stride_is_what_was_asked_for(name, output_stride):
    net = PSPNet(3, name, None, output_stride)
    output = net(torch.randn(2, 3, 64, 64))
    assert net.output_stride == output_stride
    assert output.logits.shape == (2, 3, 64 // output_stride, 64 // output_stride)
    (output.logits.sum() + output.auxiliary[0].sum()).backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["densenet121", "vgg11_bn"])
def test_mended_dilation_computes_the_undilated_values_and_those_between(name, output_stride):
    plain = build_encoder(name, None, 32, 3, 2).module.double().eval()
    dilated = build_encoder(name, None, output_stride, 3, 2).module.double().eval()
    dilated.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected, got = plain(image)[-1], dilated(image)[-1]
    step = 32 // output_stride
    assert expected.std() > 0
    assert got.shape[-1] == step * expected.shape[-1]
    torch.testing.assert_close(got[..., ::step, ::step], expected)


@pytest.mark.parametrize("name", ["xception", "tu-densenet121"])
def test_what_cannot_be_dilated_says_so_and_runs_at_its_own_stride(name):
    with pytest.raises(ValueError, match=r"can't be dilated to.*model.output_stride=32"):
        PSPNet(3, name, None, 8)
    assert PSPNet(3, name, None, 32).output_stride == 32


def test_unknown_encoder_names_the_nearest():
    with pytest.raises(ValueError, match=r"'resnet51'.*Nearest: .*resnet5"):
        PSPNet(3, "resnet51")
    with pytest.raises(ValueError, match=r"Nearest: .*tu-convnext_tiny"):
        Zoo("unet", 3, "tu-convnext_tny")


def test_encoder_that_the_net_cannot_use_is_an_error():
    with pytest.raises(ValueError, match=r"'linknet' can't use encoder='mit_b0'.*resnet18"):
        Zoo("linknet", 3, "mit_b0")
    with pytest.raises(ValueError, match="does not take images of any size"):
        PSPNet(3, "tu-swin_tiny_patch4_window7_224", None, 32)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PSPNet(3, "resnet18", "imagenet"),
        lambda: SegNet(3, "imagenet"),
        lambda: Zoo("unet", 3, "tu-resnet18", "imagenet"),
    ],
)
def test_failed_download_says_how_to_go_on(make, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    expected = r"Could not download encoder_weights='imagenet'.*model.encoder_weights=null.*/path/file.pth"
    with pytest.raises(FileNotFoundError, match=expected):
        make()


def test_unknown_weights_name_what_exists():
    with pytest.raises(ValueError, match=r"'imagenot' does not exist .* which has imagenet"):
        PSPNet(3, "resnet18", "imagenot")
    with pytest.raises(ValueError, match="tag in the encoder's name"):
        PSPNet(3, "tu-resnet18", "a1_in1k")


@pytest.mark.parametrize(
    ("encoder", "make"),
    [
        ("resnet18", torchvision.models.resnet18),
        ("mobilenet_v2", torchvision.models.mobilenet_v2),
        ("densenet121", torchvision.models.densenet121),
        ("densenet121", lambda: smp.encoders.get_encoder("densenet121")),
        ("tu-resnet18", lambda: timm.create_model("resnet18")),
        ("tu-test_convnext", lambda: timm.create_model("test_convnext")),
        ("tu-test_efficientnet", lambda: timm.create_model("test_efficientnet")),
        ("resnet18", lambda: smp.Unet("resnet18", encoder_weights=None)),
    ],
)
def test_local_file_of_the_encoder_loads(encoder, make, tmp_path):
    source = make()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = Zoo("unet", 3, encoder, str(tmp_path / "weights.pth"))
    given = [value for name, value in source.state_dict().items() if "classifier" not in name and "fc" not in name]
    name, loaded = next((n, p) for n, p in net.encoder.named_parameters() if p.dim() == 4)
    assert any(torch.equal(loaded, value) for value in given), name


def test_dilated_encoder_loads_a_safetensors_file(tmp_path):
    source = torchvision.models.resnet18().state_dict()
    save_file(source, tmp_path / "weights.safetensors")
    net = PSPNet(3, "resnet18", str(tmp_path / "weights.safetensors"))
    own = net.encoder.state_dict()
    assert all(torch.equal(value, source[name]) for name, value in own.items())


def test_dpt_loads_a_file_of_its_transformer(tmp_path):
    source = timm.create_model("test_vit", num_classes=7).state_dict()
    torch.save(source, tmp_path / "vit.pt")
    net = Zoo("dpt", 3, "tu-test_vit", str(tmp_path / "vit.pt"))
    assert torch.equal(net.encoder.model.blocks[0].attn.qkv.weight, source["blocks.0.attn.qkv.weight"])


def test_segnet_loads_torchvisions_vgg16_bn(tmp_path):
    source = torchvision.models.vgg16_bn().features.state_dict()
    torch.save({f"features.{name}": value for name, value in source.items()}, tmp_path / "vgg.pth")
    net = SegNet(3, str(tmp_path / "vgg.pth"))
    convolutions = [m for m in net.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    theirs = [value for value in source.values() if value.dim() == 4]
    assert len(convolutions) == 13
    assert all(torch.equal(ours.weight, w) for ours, w in zip(convolutions, theirs, strict=True))


@pytest.mark.parametrize("other", ["resnet34", "mobilenet_v2"])
def test_file_of_another_encoder_is_refused(other, tmp_path):
    torch.save(getattr(torchvision.models, other)().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"does not fit ResNetEncoder.*very encoder"):
        PSPNet(3, "resnet18", str(tmp_path / "weights.pth"))


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        PSPNet(3, "resnet18", str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match="can't be read as weights"):
        PSPNet(3, "resnet18", str(tmp_path / "text.pth"))


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code from the file ran",))


def test_no_code_of_a_file_runs(tmp_path):
    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="can't be read as weights"):
        PSPNet(3, "resnet18", str(tmp_path / "evil.pth"))

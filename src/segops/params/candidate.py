"""Defines the params of a candidate: its networks (model, input, recipe, each in its own file) and their use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from segops.params.inference import InferenceParams, PostprocessParams
from segops.params.input import InputParams
from segops.params.levels import Level, plan_levels
from segops.params.loss import BoundaryBCELoss
from segops.params.model import ModelParams, Outputs, levels_of_volumes, pretrained_params, takes_dimensions
from segops.params.recipe import RecipeParams
from segops.params.section import Section
from segops.params.untrained import ExternalParams, IntensityParams

_LARGEST_WINDOW_PX = 8192


class ObjectsParams(Section):
    """A further output that tells objects apart where they touch, trained on the objects of the source.

    Where the source tells none apart, they are the connected components of its masks.
    """

    target: Literal["distance"] = Field(
        description="how deep in its object a pixel is: the distance to what isn't the object, over the object's "
        "largest; 0 in background"
    )
    weight: float = Field(1.0, gt=0, description="factor of its cross entropy beside recipe.loss")


class NetworkParams(Section):
    """A network: its model, what its outputs mean, its input and its recipe."""

    model: ModelParams = Field(description="which network: an architecture and its params")
    outputs: Outputs = Field(
        "softmax",
        description="softmax: classes exclude one another; two of them need one logit, whose sigmoid is foreground. "
        "sigmoid: a channel a class, background too, each with a sigmoid of its own that is trained on its one-hot "
        "mask; a class's probability is its sigmoid over the sum of all",
    )
    objects: ObjectsParams | None = Field(
        None,
        description="a further output that tells objects apart, for inference.instances.seeds predicted",
    )
    input: InputParams = InputParams()
    recipe: RecipeParams = RecipeParams()

    @model_validator(mode="after")
    def _fits_the_images(self) -> NetworkParams:
        """Refuse a recipe that needs other channels or whole images than the input has."""
        if self.recipe.augment.stain and self.input.channels != 3:
            raise ValueError(f"recipe.augment.stain changes colours, input.channels is {self.input.channels}; set it 0")
        if self.recipe.foreground_images and self.input.resize == "none":
            raise ValueError("recipe.foreground_images is for whole images; with resize none set foreground_patches")
        return self

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return not isinstance(self.model, IntensityParams | ExternalParams)

    @property
    def cheap_epochs(self) -> int:
        """How many of the first epochs may take less time than the last: their images are small, or stages rest."""
        pretrained = pretrained_params(self.model)
        return max(self.recipe.small_epochs, pretrained.resting_epochs(self.recipe.epochs) if pretrained else 0)

    @model_validator(mode="after")
    def _says_how_to_train(self) -> NetworkParams:
        """Refuse a recipe and further outputs of what isn't trained."""
        if not self.trained and (self.recipe != RecipeParams() or self.objects or self.outputs != "softmax"):
            raise ValueError(f"{self.model.architecture} trains nothing; leave recipe, objects and outputs out")
        return self

    @property
    def external(self) -> bool:
        """Whether another program makes the masks."""
        return isinstance(self.model, ExternalParams)

    @property
    def levels(self) -> list[Level] | None:
        """Strides and kernels of a network for volumes, by its patches and their spacing; None: it is for images."""
        if not self.input.of_volumes:
            return None
        return plan_levels(self.input.size, self.input.spacing_mm, levels_of_volumes(self.model))

    @model_validator(mode="after")
    def _fits_the_dimensions(self) -> NetworkParams:
        """Refuse a network for images that sees volumes, and the other way round, and what volumes don't have."""
        architecture, size = self.model.architecture, self.input.size
        if len(size) not in takes_dimensions(self.model):
            wanted = (
                "volumes: give input.size three numbers" if len(size) == 2 else "images: give input.size two numbers"
            )
            raise ValueError(f"{architecture} is a network for {wanted}, not {list(size)}")
        if self.objects and (self.input.of_volumes or self.input.slices):
            raise ValueError("objects are told apart in pictures alone; of volumes set objects: null")
        if self.recipe.augment.stain and (self.input.of_volumes or self.input.slices):
            raise ValueError("recipe.augment.stain is of stained tissue in RGB; of volumes set it 0")
        if self.recipe.small_epochs and self.input.of_volumes:
            raise ValueError("recipe.small_epochs is for images; of volumes set it 0")
        if self.input.of_volumes and isinstance(self.recipe.loss, BoundaryBCELoss):
            raise ValueError("recipe.loss boundary_bce is for images; of volumes dice_boundary minds distances")
        _ = self.levels
        return self


class CandidateParams(NetworkParams):
    """A network, alone or with others, and how it is used."""

    cross_validation: Literal["none", "scores", "ensemble"] = Field(
        "none",
        description="scores: also train a model a fold of `split.folds`, for out-of-fold scores; ensemble: the mean of "
        "these models is the candidate",
    )
    inference: InferenceParams = InferenceParams()
    members: tuple[NetworkParams, ...] = Field(
        (),
        max_length=15,
        description="further networks, each with `model`, `outputs`, `input` and `recipe`, such as the same with "
        "another seed: the candidate is the mean probability of all",
    )

    @property
    def networks(self) -> list[CandidateParams]:
        """The candidate's networks, each as a candidate by itself: its own, then the members'."""
        if not self.members:
            return [self]
        own = self.model_copy(update={"members": ()})
        return [own, *(own.model_copy(update=dict(member)) for member in self.members)]

    @model_validator(mode="after")
    def _members_fit(self) -> CandidateParams:
        """Refuse members that don't go together, a network that is there twice, and seeds that nothing predicts."""
        self._check_untrained()
        if not all(member.trained for member in self.members):
            raise ValueError("what trains nothing can't be a member of a candidate; make it one of its own")
        if self.members and self.cross_validation != "none":
            raise ValueError("members and cross_validation don't go together; set cross_validation to none")
        if any((member.objects is None) != (self.objects is None) for member in self.members):
            raise ValueError("either all networks of a candidate have objects or none; set it in each member alike")
        networks = self.networks
        if any(network in networks[:number] for number, network in enumerate(networks)):
            raise ValueError("two networks of a candidate are alike; give a member another recipe.seed")
        if any(member.input.channels != self.input.channels for member in self.members):
            raise ValueError(f"members must see as many channels as the candidate's own input, {self.input.channels}")
        self._check_volumes()
        self._check_window()
        instances = self.inference.instances
        if instances.method == "watershed" and instances.seeds == "predicted" and self.objects is None:
            raise ValueError(
                "inference.instances.seeds is predicted, but no output predicts objects; set objects: {target: "
                "distance}, or other seeds"
            )
        return self

    def _check_untrained(self) -> None:
        """Raise ValueError for what only a network can have, and for what only another program can."""
        if self.cross_validation != "none" and not self.trained:
            raise ValueError(f"{self.model.architecture} trains nothing; set cross_validation to none")
        if not self.trained and (self.input.resize != "none" or self.inference.tta != "none" or self.members):
            raise ValueError(
                f"{self.model.architecture} sees whole native images: set input.resize none, no members and no tta"
            )
        if self.external and self.inference.postprocess.threshold != 0.5:
            raise ValueError("external gives masks: set inference.postprocess.threshold to 0.5")
        if self.inference.instances.method == "own":
            if not self.external:
                raise ValueError("instances.method own is of external programs; take components or watershed")
            if self.inference.postprocess != PostprocessParams(threshold=0.5):
                raise ValueError("inference.instances.method own takes objects as they are; cleaning isn't for them")

    def _check_window(self) -> None:
        """Raise ValueError for windows where there are none, or smaller ones than a network was trained on."""
        window = self.inference.window
        if window is None:
            return
        if not self.trained or self.input.of_volumes or any(other.input.resize != "none" for other in self.networks):
            raise ValueError(
                "inference.window is for networks that see images at native resolution (input.resize none); set "
                "inference.window: null"
            )
        if any(
            side < other for network in self.networks for side, other in zip(window, network.input.size_hw, strict=True)
        ):
            raise ValueError(
                f"inference.window {list(window)} is smaller than input.size; give each side at least that"
            )
        if max(window) > _LARGEST_WINDOW_PX:
            raise ValueError(f"inference.window {list(window)}: a side has at most {_LARGEST_WINDOW_PX} pixels")

    def _check_volumes(self) -> None:
        """Raise ValueError for networks that see volumes in different ways, and for what is done with images alone."""
        others = [network.input for network in self.networks]
        if any(other.of_volumes != self.input.of_volumes for other in others):
            raise ValueError("members are all for volumes, as the candidate's own network is, or none")
        for name in ("slices", "spacing_mm", "volume"):
            if any(getattr(other, name) != getattr(self.input, name) for other in others):
                raise ValueError(f"members see a volume alike; give each of them the candidate's own input.{name}")
        if not self.input.of_volumes and not self.input.slices:
            return
        if self.inference.tta == "d4" and self.input.of_volumes:
            raise ValueError("inference.tta d4 is for images; take flips of volumes")
        if self.inference.instances.method != "none":
            raise ValueError("inference.instances are told apart in pictures alone; of volumes set method: none")

"""bnff.Trainer: a network of the zoo trained on NumPy arrays, without PyTorch."""
import collections
import ctypes
from ctypes import byref, c_bool, c_double, c_void_p

import numpy as np

from . import _engine
from . import _native as n

_KINDS = {"sgd": 0, "adam": 1, "adamw": 2}
_PLANS = 8  # of the batch and image sizes seen last


class Trainer:
    """
        trainer = bnff.Trainer("resnet18", classes=10, lr=0.05)
        loss = trainer.step(images, labels)      # images: N x H x W x C float32, labels: N integers
        logits = trainer.predict(images)
        np.savez("weights.npz", **trainer.state_dict())

    Models, names of parameters and initialisation are torchvision's; the optimizers are PyTorch's. `lr` may be set between steps.
    """

    def __init__(self, model, classes, *, channels=3, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, seed=0, threads=0):
        if optimizer not in _KINDS:
            raise ValueError(f"optimizer '{optimizer}' is none of {', '.join(_KINDS)}")
        for name, count in ("classes", classes), ("channels", channels):
            if not 1 <= count <= 1 << 24:
                raise ValueError(f"{name}={count} is not between 1 and {1 << 24}")
        if not lr >= 0:
            raise ValueError(f"lr={lr} is not 0 or more")
        self.lr, self.classes, self.channels = lr, classes, channels
        self._seed, self._steps = seed, 0
        self._state, self._optimizer = c_void_p(), c_void_p()
        self._context, self._graph = _engine.context_for(threads), _engine.Graph()
        self._graph.build(model, classes, channels)
        n.state_create(self._graph.handle, byref(self._state))
        n.state_init(self._state, model.encode(), seed)
        options = n.OptimizerOptions(size=ctypes.sizeof(n.OptimizerOptions), kind=_KINDS[optimizer], momentum=momentum, weight_decay=weight_decay,
                                     norm_weight_decay=-1, bias_weight_decay=-1)
        n.optimizer_create(self._context.handle, self._graph.handle, byref(options), None, byref(self._optimizer))
        self._params, self._pool = self._graph.params(), _engine.Pool(self._context)
        self._plans = collections.OrderedDict()
        pointers = n.state_params(self._state)
        self._arrays = {}
        self._gradients = {}
        for i, (name, shape, buffer) in enumerate(self._params):
            size = int(np.prod(shape))
            self._arrays[name] = np.frombuffer((ctypes.c_float * size).from_address(pointers[i]), np.float32).reshape(shape)
            if not buffer:
                self._gradients[i] = np.empty(shape, np.float32)
        self._gradient_pointers = (c_void_p * len(self._params))()
        for i, g in self._gradients.items():
            self._gradient_pointers[i] = g.ctypes.data

    def __del__(self):
        if getattr(self, "_optimizer", None):
            n.optimizer_destroy(byref(self._optimizer))
        if getattr(self, "_state", None):
            n.state_destroy(byref(self._state))

    def _plan(self, shape, train):
        key = (shape, train)
        if key not in self._plans:
            self._plans[key] = _engine.Plan(self._context, self._graph, shape[0], train, size=shape[1:3])
            while len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key]

    def _forward(self, images, train):
        images = np.require(images, np.float32, "A")  # strides are whole numbers of floats, as they are not in an array of records
        if images.ndim != 4 or images.shape[3] != self.channels:
            raise ValueError(f"images of shape {images.shape}; N x H x W x {self.channels} is wanted")
        plan = self._plan(images.shape, train)
        logits = np.empty((images.shape[0], self.classes), np.float32)
        run = self._pool.acquire(plan)
        inputs = (n.Tensor * 1)(n.Tensor(images.ctypes.data, (ctypes.c_ssize_t * 4)(*(s // 4 for s in images.strides))))
        outputs = (n.Tensor * 1)(n.Tensor(logits.ctypes.data, (ctypes.c_ssize_t * 4)(self.classes, self.classes, self.classes, 1)))
        arguments = n.ForwardArgs(size=ctypes.sizeof(n.ForwardArgs), inputs=inputs, outputs=outputs, params=n.state_params(self._state),
                                  seed=self._seed, step=self._steps)
        run.keep = (images, inputs, outputs, arguments)
        n.forward(run.handle, byref(arguments))
        return run, logits

    def step(self, images, labels):
        """One update from one batch. The mean cross-entropy before it."""
        labels = np.asarray(labels)
        if labels.shape != (len(images),):
            raise ValueError(f"{labels.shape} labels for {len(images)} images")
        wrong = labels[~((labels >= 0) & (labels < self.classes) & (labels == np.floor(labels)))]
        if wrong.size:  # before anything has changed
            raise ValueError(f"label {wrong[0]} is not one of the {self.classes} classes, 0 to {self.classes - 1}")
        labels = np.ascontiguousarray(labels, np.int32)
        run, logits = self._forward(images, True)
        gradient, loss = np.empty_like(logits), c_double()
        n.softmax_cross_entropy(logits.ctypes.data, len(labels), self.classes, labels.ctypes.data, None, 0.0, byref(loss), gradient.ctypes.data)
        incoming = (n.Tensor * 1)(n.Tensor(gradient.ctypes.data, (ctypes.c_ssize_t * 4)(self.classes, self.classes, self.classes, 1)))
        arguments = n.BackwardArgs(size=ctypes.sizeof(n.BackwardArgs), output_gradients=incoming, param_gradients=self._gradient_pointers)
        n.backward(run.handle, byref(arguments))
        run.release()
        n.state_count_batch(self._state, None)
        n.optimizer_step(self._optimizer, n.state_params(self._state), self._gradient_pointers, self.lr, 1.0)
        self._steps += 1
        return loss.value

    def fit(self, images, labels, *, epochs=1, batch=32):
        """Train on all images `epochs` times, in an order drawn from the seed. The mean loss of each epoch."""
        order, losses = np.random.default_rng(self._seed), []
        for _ in range(epochs):
            shuffled, total = order.permutation(len(images)), 0.0
            for first in range(0, len(images), batch):
                part = shuffled[first:first + batch]
                total += self.step(images[part], labels[part]) * len(part)
            losses.append(total / len(images))
        return losses

    def predict(self, images, *, batch=32):
        """Logits, N x classes, with running statistics."""
        parts = []
        for first in range(0, len(images), batch):
            run, logits = self._forward(images[first:first + batch], False)
            run.release()
            parts.append(logits)
        return np.concatenate(parts) if parts else np.empty((0, self.classes), np.float32)

    def _counts(self):
        """name -> number of batches that a batch normalization has seen"""
        for i, (name, _, _) in enumerate(self._params):
            count = n.state_batches(self._state, i)
            if count:
                yield name.replace("running_mean", "num_batches_tracked"), count

    def state_dict(self):
        """Copies of parameters and buffers under torchvision's names."""
        state = {name: array.copy() for name, array in self._arrays.items()}
        state.update((name, np.int64(count[0])) for name, count in self._counts())
        return state

    def load_state_dict(self, state):
        """Take values from a mapping with the same names and shapes, NumPy arrays or what turns into them."""
        missing = [name for name in self._arrays if name not in state]
        if missing:
            raise KeyError(f"{len(missing)} parameters are missing, {missing[0]} for one")
        known = {*self._arrays, *(name for name, _ in self._counts())}
        others = [name for name in state if name not in known]
        if others:
            raise KeyError(f"{len(others)} names are of another network, {others[0]} for one")
        for name, array in self._arrays.items():
            value = np.asarray(state[name], np.float32)
            if value.shape != array.shape:
                raise ValueError(f"{name} has shape {value.shape}, not {array.shape}")
        for name, array in self._arrays.items():
            array[...] = np.asarray(state[name], np.float32)
        for name, count in self._counts():
            count[0] = int(state.get(name, 0))

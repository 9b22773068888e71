"""Small environments that several reinforcement learners share: many copies at once, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class CartPole:
    """The pole on a cart, `copies` of them; two actions, reward 1 a step, 0 when it falls."""

    observations, actions = 4, 2

    def __init__(self, copies: int, seed: int, limit: int = 200, length: float = 0.5) -> None:
        self._rng = np.random.default_rng(seed)
        self._copies, self._limit, self._length = copies, limit, length
        self._state = self._fresh(copies)
        self._age = self._rng.integers(0, limit, copies)
        self.lengths: list[int] = []
        """Steps of the episodes that ended."""

    def _fresh(self, count: int) -> F32:
        return self._rng.uniform(-0.05, 0.05, (count, 4)).astype(np.float32)

    def observe(self) -> F32:
        """float32[copies, 4]."""
        return self._state.copy()

    def step(self, action: NDArray) -> tuple[F32, F32]:
        """(reward, done) of each copy; those that ended begin anew."""
        x, v, angle, spin = self._state.T
        force = np.where(action == 1, 10.0, -10.0)
        cos, sin, length = np.cos(angle), np.sin(angle), self._length
        push = (force + 0.1 * length * spin**2 * sin) / 1.1
        turn = (9.8 * sin - cos * push) / (length * (4 / 3 - 0.1 * cos**2 / 1.1))
        move = push - 0.1 * length * turn * cos / 1.1
        state = np.stack(
            [x + 0.02 * v, v + 0.02 * move, angle + 0.02 * spin, spin + 0.02 * turn], axis=1
        )
        self._age += 1
        fell = (np.abs(state[:, 0]) > 2.4) | (np.abs(state[:, 2]) > 0.21)
        over = fell | (self._age >= self._limit)
        self.lengths += self._age[over].tolist()
        state[over] = self._fresh(int(over.sum()))
        self._age[over] = 0
        self._state = state.astype(np.float32)
        return (~fell).astype(np.float32), fell.astype(np.float32)


class Reach:
    """A point with inertia in the plane that is to come to rest at the origin; two forces in
    [-1, 1]; the reward is minus the distance, times `scale`."""

    observations, actions = 4, 2

    def __init__(self, copies: int, seed: int, limit: int = 40, scale: float = 1.0) -> None:
        self._rng = np.random.default_rng(seed)
        self._limit, self._scale = limit, scale
        self._state = self._fresh(copies)
        self._age = self._rng.integers(0, limit, copies)

    def _fresh(self, count: int) -> F32:
        place = self._rng.uniform(-1, 1, (count, 2))
        return np.concatenate([place, np.zeros((count, 2))], axis=1).astype(np.float32)

    def observe(self) -> F32:
        """float32[copies, 4]."""
        return self._state.copy()

    def step(self, action: NDArray) -> tuple[F32, F32]:
        """(reward, done) of each copy; done is 0: an episode ends by its time alone."""
        place, speed = self._state[:, :2], self._state[:, 2:]
        speed = 0.9 * speed + 0.15 * np.clip(action, -1, 1)
        speed = speed + self._rng.normal(0, 0.01, speed.shape)
        state = np.concatenate([np.clip(place + 0.3 * speed, -2, 2), speed], axis=1)
        reward = -self._scale * np.linalg.norm(state[:, :2], axis=1)
        self._age += 1
        over = self._age >= self._limit
        state[over] = self._fresh(int(over.sum()))
        self._age[over] = 0
        self._state = state.astype(np.float32)
        return reward.astype(np.float32), np.zeros(len(reward), np.float32)


class Pendulum:
    """Swinging a pendulum up; one torque in [-1, 1]; rewards from -16 to 0."""

    observations, actions = 3, 1

    def __init__(self, copies: int, seed: int, limit: int = 100) -> None:
        self._rng = np.random.default_rng(seed)
        self._limit = limit
        self._angle = self._rng.uniform(-np.pi, np.pi, copies)
        self._spin = self._rng.uniform(-1, 1, copies)
        self._age = self._rng.integers(0, limit, copies)

    def observe(self) -> F32:
        """float32[copies, 3]."""
        parts = [np.cos(self._angle), np.sin(self._angle), self._spin / 8]
        return np.stack(parts, axis=1).astype(np.float32)

    def step(self, action: NDArray) -> tuple[F32, F32]:
        """(reward, done) of each copy; done is 0: an episode ends by its time alone."""
        torque = 2 * np.clip(action[:, 0], -1, 1)
        angle = (self._angle + np.pi) % (2 * np.pi) - np.pi
        reward = -(angle**2 + 0.1 * self._spin**2 + 0.001 * torque**2)
        spin = np.clip(self._spin + 0.05 * (15 * np.sin(angle) + 3 * torque), -8, 8)
        self._angle, self._spin = angle + 0.05 * spin, spin
        self._age += 1
        over = self._age >= self._limit
        count = int(over.sum())
        self._angle[over] = self._rng.uniform(-np.pi, np.pi, count)
        self._spin[over] = self._rng.uniform(-1, 1, count)
        self._age[over] = 0
        return reward.astype(np.float32), np.zeros(len(reward), np.float32)


class Replay:
    """The last transitions, as arrays of float32; sampled with replacement."""

    def __init__(self, size: int, observations: int, actions: int, seed: int) -> None:
        widths = (observations, actions, 1, observations, 1)
        self._columns = [np.zeros((size, width), np.float32) for width in widths]
        self._rng = np.random.default_rng(seed)
        self._size = size
        self.count = 0

    def add(self, *columns: NDArray) -> None:
        """(observation, action, reward, next observation, done), a row for each copy."""
        at = np.arange(self.count, self.count + len(columns[0])) % self._size
        for kept, column in zip(self._columns, columns, strict=True):
            kept[at] = column.reshape(len(at), -1)
        self.count += len(at)

    def sample(self, batch: int) -> list[F32]:
        """The same columns of `batch` random rows."""
        rows = self._rng.integers(0, min(self.count, self._size), batch)
        return [column[rows] for column in self._columns]

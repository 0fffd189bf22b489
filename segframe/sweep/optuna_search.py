"""A search by Optuna: it chooses parameters and says which trials are hopeless; its study is the truth about both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from segframe.config.options import ConfigError
from segframe.sweep.axes import Axis, Choices
from segframe.sweep.grid import words_of
from segframe.sweep.optuna_storage import load_optuna, open_storage, told
from segframe.sweep.outcome import value_of
from segframe.sweep.samplers import pruner_of, sampler_of
from segframe.sweep.search import StudyLostError
from segframe.sweep.settings import Sweep
from segframe.sweep.trial import State, Trial, read_all, trial_folder

_FOLDER = "sweep folder"
_ERROR = "error"
_OF_DATABASES = ("sqlalchemy", "psycopg", "psycopg2", "redis")
_STATES: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}


class OptunaSearch:
    """A ``Search`` whose trials Optuna chooses.

    A trial's parameters follow from the seed, its number and the results known when it is made, so that a
    driver that was killed changes nothing. What runs is RUNNING in the study until it has ended for good: the next
    driver takes it up with its number and parameters.

    Args:
        sweep: The sweep; its folder is locked.
        axes: What is searched.

    Raises:
        ConfigError: If the study is not to be had, or is another sweep's.
    """

    def __init__(self, sweep: Sweep, axes: Sequence[Axis]) -> None:
        self._sweep, self._axes = sweep, list(axes)
        self._optuna = load_optuna()
        self._handles: dict[int, Any] = {}
        self._trials = {trial.number: trial for trial in read_all(sweep.folder)}
        self._storage = open_storage(sweep.settings.search.storage, sweep.folder)
        try:
            self._study = self._open()
            self._take_over()
        except BaseException:
            self.close()
            raise

    def ask(self) -> Trial | None:
        """Returns a new trial with the parameters that Optuna chooses; None when there are enough."""
        if len(self._trials) >= self._sweep.num_trials:
            return None
        with _database_told():
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = sampler_of(self._sweep.settings.search, self._axes, number)
            handle = self._study.ask()
            return self._given(handle)

    def unfinished(self) -> list[Trial]:
        """Returns the trials that are RUNNING in the study."""
        return [trial for trial in self.trials() if not trial.has_ended]

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Takes the metric after an epoch; returns whether Optuna's pruner would end the trial."""
        handle = self._handle(trial.number)
        with _database_told():
            if step in handle._cached_frozen_trial.intermediate_values:
                return False
            handle.report(value, step)
            return bool(handle.should_prune())

    def tell(self, trial: Trial, state: State, value: float | None, error: str | None) -> None:
        """Tells the study how a trial ended, then writes it down."""
        states = self._optuna.trial.TrialState
        with _database_told():
            if state == "failed":
                self._handle(trial.number).set_user_attr(_ERROR, error)
                self._study.tell(trial.number, state=states.FAIL)
            elif state == "pruned":
                self._study.tell(trial.number, state=states.PRUNED)
            elif state == "finished":
                self._study.tell(trial.number, value)
        trial.end(state, value, error)

    def trials(self) -> list[Trial]:
        """Returns every trial that was given out, by number."""
        return [self._trials[number] for number in sorted(self._trials)]

    def close(self) -> None:
        """Gives back the connections to a database."""
        engine = getattr(getattr(self._storage, "_backend", None), "engine", None)
        self._storage.remove_session()
        if engine is not None:
            engine.dispose()

    def _open(self) -> Any:
        settings, folder = self._sweep.settings, self._sweep.folder
        with _database_told():
            # The folder may have been moved since, with the study's own file in it.
            names = self._optuna.get_all_study_names(self._storage) if settings.search.storage is None else ()
            study = self._optuna.create_study(
                storage=self._storage,
                study_name=next(iter(names), folder.absolute().name),  # that of "." is empty
                direction=settings.direction,
                pruner=pruner_of(settings.search, self._sweep.num_epochs),
                load_if_exists=True,
            )
            owner, here = study.user_attrs.get(_FOLDER), str(folder.absolute())
            if owner is None:
                study.set_user_attr(_FOLDER, here)
            elif settings.search.storage is not None and owner != here:
                raise ConfigError(
                    f"the study {folder.name} of sweep.search.storage belongs to the sweep folder {owner}; "
                    f"give sweep.dir={owner}, or a sweep.dir of another name"
                )
        return study

    def _take_over(self) -> None:
        """Brings the trials' folders up to what the study knows, and the study's half-made trials to an end."""
        with _database_told():
            known = {frozen.number: frozen for frozen in self._study.get_trials(deepcopy=False)}
            lost = sorted(set(self._trials) - set(known))
            if lost:
                raise ConfigError(
                    f"{self._sweep.folder} holds {len(lost)} trials that the study does not know (the first is "
                    f"{lost[0]}): its file or database was deleted; restore it, or give another sweep.dir"
                )
            for number, frozen in known.items():
                if frozen.state.name == "RUNNING":
                    self._given(self._handle(number))
                elif frozen.state.is_finished():
                    self._ended(number, frozen)

    def _given(self, handle: Any) -> Trial:
        """Returns the trial of one that is RUNNING in the study; parameters that it lacks are chosen."""
        params = {axis.key: self._suggested(handle, axis) for axis in self._axes}
        trial = self._trials.get(handle.number)
        words = words_of(self._axes, params, self._sweep.words)
        if trial is None:
            trial = Trial(handle.number, params, words, trial_folder(self._sweep.folder, handle.number))
            trial.write()
        elif trial.has_ended:  # its end is not in the study, which the machine has lost
            trial.params, trial.words, trial.state, trial.value, trial.error = params, words, "waiting", None, None
            trial.write()
        self._trials[handle.number] = trial
        self._handles[handle.number] = handle
        return trial

    def _ended(self, number: int, frozen: Any) -> None:
        """Writes down what the study alone knows of a trial."""
        state = _STATES[frozen.state.name]
        trial = self._trials.get(number)
        if trial is None:
            known = [(axis, frozen.params[axis.key]) for axis in self._axes if axis.key in frozen.params]
            params = {axis.key: axis.value(v) if isinstance(axis, Choices) else v for axis, v in known}
            words = words_of(self._axes, params, self._sweep.words) if len(params) == len(self._axes) else []
            trial = self._trials[number] = Trial(number, params, words, trial_folder(self._sweep.folder, number))
        if trial.state != state:
            value = frozen.value if state == "finished" else value_of(trial.folder, self._sweep.settings)
            trial.end(state, value, frozen.user_attrs.get(_ERROR))

    def _handle(self, number: int) -> Any:
        """Returns Optuna's object of a trial, of an earlier driver too."""
        if number not in self._handles:
            self._study.sampler = sampler_of(self._sweep.settings.search, self._axes, number)
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
            self._handles[number] = self._optuna.trial.Trial(self._study, trial_id)
        return self._handles[number]

    def _suggested(self, handle: Any, axis: Axis) -> Any:
        """Returns the value of an axis, that of the study where it has one."""
        if isinstance(axis, Choices):
            return axis.value(handle.suggest_categorical(axis.key, axis.labels))
        if axis.is_integer:
            step = 1 if axis.step is None else int(axis.step)
            return handle.suggest_int(axis.key, int(axis.low), int(axis.high), step=step, log=axis.log)
        return handle.suggest_float(axis.key, axis.low, axis.high, step=axis.step, log=axis.log)


@contextmanager
def _database_told() -> Iterator[None]:
    """Says that the database is gone, in its own words but without a traceback."""
    try:
        yield
    except Exception as error:
        # Those of packages that need not be installed.
        packages = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
        if packages.isdisjoint(_OF_DATABASES) and type(error).__name__ != "StorageInternalError":
            raise
        raise StudyLostError(f"the study's database does not answer: {told(error)}") from error

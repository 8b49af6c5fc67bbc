"""Images from production, as the review page takes them in."""

import threading
from pathlib import Path

from pipeline.feedback import inbox
from pipeline.feedback.inbox import Inbox, Waiting


class Arrivals:
    """The inbox of a project folder, and the folder of accepted images.

    With `blur_faces`, a thread blurs the faces in images that were kept without it. Only then does
    the page show them, and only then can people accept them.
    """

    def __init__(self, project: Path, *, blur_faces: bool) -> None:
        self._inbox, self._accepted = Inbox(project / inbox.FOLDER), project / inbox.ACCEPTED
        self._blur_faces, self._blurring = blur_faces, threading.Thread()

    def waiting(self) -> list[Waiting]:
        """The images to review now; prints once how many wait until their faces are blurred."""
        if self._blur_faces and not self._blurring.is_alive():
            n = self._inbox.n_unblurred()
            if n:
                print(
                    f"{n} images of feedback were kept before blur_faces was switched on; each "
                    f"appears once its faces are blurred",
                    flush=True,
                )
                self._blurring = threading.Thread(target=_blur, args=(self._inbox,), daemon=True)
                self._blurring.start()
        return self._inbox.waiting(only_blurred=self._blur_faces)

    def picture(self, id: str) -> bytes:
        """The PNG of an image; KeyError for an unknown id."""
        return self._inbox.png(id)

    def settle(self, id: str, *, accepted: bool) -> None:
        """Put an accepted image where the next `dvc repro` finds it, or remove it from there."""
        if accepted:
            inbox.accept(self._inbox, id, self._accepted)
        else:
            inbox.take_back(id, self._accepted)


def _blur(box: Inbox) -> None:
    from pipeline.pixels import faces  # the detector takes a while to load

    box.blur(faces.blurred)

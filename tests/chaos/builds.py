from tests.chaos.ground import Ground
def storm(ground: Ground, *, kills: int) -> int:
    raise NotImplementedError

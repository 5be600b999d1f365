"""User objects: memory of the program that graphs keep alive (cuda.h, cuUserObjectCreate)."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.calls.graph import get_graph
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.graphs import UserObject
from dmaproof.virtual.driver.host_tasks import HostFunction

_NO_DESTRUCTOR_SYNC = 1  # CU_USER_OBJECT_NO_DESTRUCTOR_SYNC (cuda.h)
_MOVE = 1  # CU_GRAPH_USER_OBJECT_MOVE (cuda.h)


@call("cuUserObjectCreate", "pppII", needs="init")
def cu_user_object_create(target: int, pointer: int, destroy: int, references: int, flags: int) -> None:
    if not destroy or not references or flags != _NO_DESTRUCTOR_SYNC:
        raise DriverError(CuResult.INVALID_VALUE)
    function = HostFunction(destroy)
    put_u64(target, driver().handles.add(UserObject(lambda: function(pointer), references)))


@call("cuUserObjectRetain", "pI", needs="init")
def cu_user_object_retain(handle: int, count: int) -> None:
    _object(handle, count).references += count


@call("cuUserObjectRelease", "pI", needs="init")
def cu_user_object_release(handle: int, count: int) -> None:
    _object(handle, count).release(count)


@call("cuGraphRetainUserObject", "ppII", needs="init")
def cu_graph_retain_user_object(graph: int, handle: int, count: int, flags: int) -> None:
    into, one = get_graph(graph), _object(handle, count)
    into.objects[one] = into.objects.get(one, 0) + count
    if not flags & _MOVE:
        one.references += count


@call("cuGraphReleaseUserObject", "ppI", needs="init")
def cu_graph_release_user_object(graph: int, handle: int, count: int) -> None:
    of, one = get_graph(graph), _object(handle, count)
    held = of.objects.get(one, 0)
    if held < count:
        raise DriverError(CuResult.INVALID_VALUE)
    of.objects[one] = held - count
    one.release(count)


def _object(handle: int, count: int) -> UserObject:
    if not count:
        raise DriverError(CuResult.INVALID_VALUE)
    return driver().handles.get(handle, UserObject)

"""cuDeviceGetAttribute: numbers of CUdevice_attribute (cuda.h)."""

from __future__ import annotations

from dmaproof import bdf
from dmaproof.virtual.driver.abi import call, put_int
from dmaproof.virtual.driver.calls.locations import fabric_supported, host_numa_supported
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import not_supported
from dmaproof.virtual.driver.gpus import Device

# Streaming multiprocessors by product; NVIDIA's data sheets.
_MULTIPROCESSORS = {"H100": 132, "H200": 132, "GH200": 132, "A6000": 84, "L40S": 142, "A100": 108, "B200": 148}
_FALLBACK_MULTIPROCESSORS = 108

# What every GPU since compute capability 8.0 answers alike, or what this driver implements of it.
_SAME = {
    1: 1024,  # MAX_THREADS_PER_BLOCK
    2: 1024,  # MAX_BLOCK_DIM_X
    3: 1024,  # MAX_BLOCK_DIM_Y
    4: 64,  # MAX_BLOCK_DIM_Z
    5: 2147483647,  # MAX_GRID_DIM_X
    6: 65535,  # MAX_GRID_DIM_Y
    7: 65535,  # MAX_GRID_DIM_Z
    8: 49152,  # MAX_SHARED_MEMORY_PER_BLOCK
    9: 65536,  # TOTAL_CONSTANT_MEMORY
    10: 32,  # WARP_SIZE
    11: 2147483647,  # MAX_PITCH
    12: 65536,  # MAX_REGISTERS_PER_BLOCK
    14: 512,  # TEXTURE_ALIGNMENT
    15: 1,  # GPU_OVERLAP
    17: 0,  # KERNEL_EXEC_TIMEOUT
    18: 0,  # INTEGRATED
    19: 1,  # CAN_MAP_HOST_MEMORY
    20: 0,  # COMPUTE_MODE: default
    30: 512,  # SURFACE_ALIGNMENT
    31: 1,  # CONCURRENT_KERNELS
    32: 1,  # ECC_ENABLED
    35: 0,  # TCC_DRIVER
    39: 2048,  # MAX_THREADS_PER_MULTIPROCESSOR
    40: 3,  # ASYNC_ENGINE_COUNT
    41: 1,  # UNIFIED_ADDRESSING
    51: 32,  # TEXTURE_PITCH_ALIGNMENT
    78: 1,  # STREAM_PRIORITIES_SUPPORTED
    79: 1,  # GLOBAL_L1_CACHE_SUPPORTED
    80: 1,  # LOCAL_L1_CACHE_SUPPORTED
    81: 233472,  # MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    82: 65536,  # MAX_REGISTERS_PER_MULTIPROCESSOR
    83: 1,  # MANAGED_MEMORY
    84: 0,  # MULTI_GPU_BOARD
    85: 0,  # MULTI_GPU_BOARD_GROUP_ID
    89: 1,  # CONCURRENT_MANAGED_ACCESS
    90: 0,  # COMPUTE_PREEMPTION_SUPPORTED: no preemption is modelled
    91: 1,  # CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
    92: 0,  # CAN_USE_STREAM_MEM_OPS_V1: cuStreamWaitValue and its kin are not implemented
    93: 0,  # CAN_USE_64_BIT_STREAM_MEM_OPS_V1
    94: 0,  # CAN_USE_STREAM_WAIT_VALUE_NOR_V1
    95: 0,  # COOPERATIVE_LAUNCH: not implemented
    96: 0,  # COOPERATIVE_MULTI_DEVICE_LAUNCH
    97: 232448,  # MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    98: 0,  # CAN_FLUSH_REMOTE_WRITES
    99: 1,  # HOST_REGISTER_SUPPORTED
    102: 1,  # VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
    103: 1,  # HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED
    104: 0,  # HANDLE_TYPE_WIN32_HANDLE_SUPPORTED
    105: 0,  # HANDLE_TYPE_WIN32_KMT_HANDLE_SUPPORTED
    106: 32,  # MAX_BLOCKS_PER_MULTIPROCESSOR
    107: 0,  # GENERIC_COMPRESSION_SUPPORTED
    110: 0,  # GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED
    111: 1024,  # RESERVED_SHARED_MEMORY_PER_BLOCK
    112: 0,  # SPARSE_CUDA_ARRAY_SUPPORTED
    113: 0,  # READ_ONLY_HOST_REGISTER_SUPPORTED
    114: 0,  # TIMELINE_SEMAPHORE_INTEROP_SUPPORTED
    115: 1,  # MEMORY_POOLS_SUPPORTED
    116: 0,  # GPU_DIRECT_RDMA_SUPPORTED
    117: 0,  # GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS
    118: 0,  # GPU_DIRECT_RDMA_WRITES_ORDERING: none
    119: 1,  # MEMPOOL_SUPPORTED_HANDLE_TYPES: POSIX file descriptors
    120: 0,  # CLUSTER_LAUNCH: not implemented
    121: 0,  # DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED
    122: 0,  # CAN_USE_64_BIT_STREAM_MEM_OPS
    123: 0,  # CAN_USE_STREAM_WAIT_VALUE_NOR
    124: 0,  # DMA_BUF_SUPPORTED
    125: 1,  # IPC_EVENT_SUPPORTED
    127: 0,  # TENSOR_MAP_ACCESS_SUPPORTED: descriptors of tensors are not implemented
    129: 0,  # UNIFIED_FUNCTION_POINTERS
    130: 0,  # NUMA_CONFIG: none; the kernel that runs here has no node for memory of a GPU that is a model
    131: -1,  # NUMA_ID
    132: 0,  # MULTICAST_SUPPORTED
    133: 0,  # MPS_ENABLED
    135: 0,  # D3D12_CIG_SUPPORTED
    136: 0,  # MEM_DECOMPRESS_ALGORITHM_MASK
    137: 0,  # MEM_DECOMPRESS_MAXIMUM_LENGTH
    138: 0,  # VULKAN_CIG_SUPPORTED
    141: 0,  # HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
    142: 1,  # HOST_NUMA_MEMORY_POOLS_SUPPORTED
    143: 0,  # HOST_NUMA_MULTINODE_IPC_SUPPORTED
    144: 1,  # HOST_MEMORY_POOLS_SUPPORTED
    145: 0,  # HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
    146: 0,  # HOST_ALLOC_DMA_BUF_SUPPORTED
    147: 0,  # ONLY_PARTIAL_HOST_NATIVE_ATOMIC_SUPPORTED
}


@call("cuDeviceGetAttribute", "pii", needs="init")
def cu_device_get_attribute(value: int, attribute: int, device: int) -> None:
    known = {**_SAME, **_own(driver().device(device))}
    if attribute not in known:
        raise not_supported(f"device attribute {attribute}")
    put_int(value, known[attribute])


def _own(device: Device) -> dict[int, int]:
    requester = bdf.requester_id(device.bdf)
    major, minor = device.compute_capability
    fabric = driver().fabric
    to_host = fabric.path(device, None)
    coherent = to_host is not None and to_host.kind == "c2c"
    pageable, ats = fabric.node.pageable, fabric.node.addressing == "ats"
    return {
        16: _multiprocessors(device.gpu.product or ""),
        33: requester >> 8,  # PCI_BUS_ID
        34: requester >> 3 & 0x1F,  # PCI_DEVICE_ID
        50: int(device.bdf.split(":")[0], 16),  # PCI_DOMAIN_ID
        75: major,
        76: minor,
        86: int(coherent),  # HOST_NATIVE_ATOMIC_SUPPORTED
        88: int(pageable),  # PAGEABLE_MEMORY_ACCESS
        100: int(ats),  # PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES
        101: int(ats),  # DIRECT_MANAGED_MEM_ACCESS_FROM_HOST
        128: int(fabric_supported(device)),  # HANDLE_TYPE_FABRIC_SUPPORTED
        141: int(host_numa_supported()),  # HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
        134: device.gpu.numa_node if device.gpu.numa_node is not None else -1,  # HOST_NUMA_ID
    }


def _multiprocessors(product: str) -> int:
    words = product.split()
    return next((count for word, count in _MULTIPROCESSORS.items() if word in words), _FALLBACK_MULTIPROCESSORS)

package driver

// A symbol is a function of the library.
type symbol int

const (
	cuInit symbol = iota
	cuDriverGetVersion
	cuDeviceGetCount
	cuDeviceGet
	cuDeviceGetName
	cuDeviceGetAttribute
	cuDevicePrimaryCtxRetain
	cuDevicePrimaryCtxRelease
	cuCtxSetCurrent
	cuMemAlloc
	cuMemFree
	cuMemHostAlloc
	cuMemFreeHost
	cuMemcpyHtoDAsync
	cuMemcpyDtoHAsync
	cuMemcpyDtoDAsync
	cuMemcpy2DAsync
	cuMemsetD8Async
	cuStreamCreate
	cuStreamSynchronize
	cuStreamWaitEvent
	cuStreamDestroy
	cuStreamBeginCapture
	cuStreamEndCapture
	cuEventCreate
	cuEventRecord
	cuEventElapsedTime
	cuEventDestroy
	cuGraphInstantiate
	cuGraphLaunch
	cuGraphExecDestroy
	cuGraphDestroy
	cuModuleLoadDataEx
	cuModuleUnload
	cuModuleGetFunction
	cuFuncGetAttribute
	cuFuncSetAttribute
	cuLaunchKernelEx
	cuGetErrorName
	cuGetErrorString
	cuModuleGetFunctionCount
	cuModuleEnumerateFunctions
	cuFuncLoad
	cuFuncGetName
	cuFuncGetParamInfo
	symbols // how many there are
)

// optional is the first of the functions that drivers before CUDA 12.4 lack.
const optional = cuModuleGetFunctionCount

// names are how the library calls its functions: with the version whose
// arguments this package knows.
var names = [symbols]string{
	cuInit:                     "cuInit",
	cuDriverGetVersion:         "cuDriverGetVersion",
	cuDeviceGetCount:           "cuDeviceGetCount",
	cuDeviceGet:                "cuDeviceGet",
	cuDeviceGetName:            "cuDeviceGetName",
	cuDeviceGetAttribute:       "cuDeviceGetAttribute",
	cuDevicePrimaryCtxRetain:   "cuDevicePrimaryCtxRetain",
	cuDevicePrimaryCtxRelease:  "cuDevicePrimaryCtxRelease_v2",
	cuCtxSetCurrent:            "cuCtxSetCurrent",
	cuMemAlloc:                 "cuMemAlloc_v2",
	cuMemFree:                  "cuMemFree_v2",
	cuMemHostAlloc:             "cuMemHostAlloc",
	cuMemFreeHost:              "cuMemFreeHost",
	cuMemcpyHtoDAsync:          "cuMemcpyHtoDAsync_v2",
	cuMemcpyDtoHAsync:          "cuMemcpyDtoHAsync_v2",
	cuMemcpyDtoDAsync:          "cuMemcpyDtoDAsync_v2",
	cuMemcpy2DAsync:            "cuMemcpy2DAsync_v2",
	cuMemsetD8Async:            "cuMemsetD8Async",
	cuStreamCreate:             "cuStreamCreate",
	cuStreamSynchronize:        "cuStreamSynchronize",
	cuStreamWaitEvent:          "cuStreamWaitEvent",
	cuStreamDestroy:            "cuStreamDestroy_v2",
	cuStreamBeginCapture:       "cuStreamBeginCapture_v2",
	cuStreamEndCapture:         "cuStreamEndCapture",
	cuEventCreate:              "cuEventCreate",
	cuEventRecord:              "cuEventRecord",
	cuEventElapsedTime:         "cuEventElapsedTime",
	cuEventDestroy:             "cuEventDestroy_v2",
	cuGraphInstantiate:         "cuGraphInstantiateWithFlags",
	cuGraphLaunch:              "cuGraphLaunch",
	cuGraphExecDestroy:         "cuGraphExecDestroy",
	cuGraphDestroy:             "cuGraphDestroy",
	cuModuleLoadDataEx:         "cuModuleLoadDataEx",
	cuModuleUnload:             "cuModuleUnload",
	cuModuleGetFunction:        "cuModuleGetFunction",
	cuFuncGetAttribute:         "cuFuncGetAttribute",
	cuFuncSetAttribute:         "cuFuncSetAttribute",
	cuLaunchKernelEx:           "cuLaunchKernelEx",
	cuGetErrorName:             "cuGetErrorName",
	cuGetErrorString:           "cuGetErrorString",
	cuModuleGetFunctionCount:   "cuModuleGetFunctionCount",
	cuModuleEnumerateFunctions: "cuModuleEnumerateFunctions",
	cuFuncLoad:                 "cuFuncLoad",
	cuFuncGetName:              "cuFuncGetName",
	cuFuncGetParamInfo:         "cuFuncGetParamInfo",
}

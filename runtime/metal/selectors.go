package metal

import "github.com/marlingen/marlingen/runtime/metal/internal/objc"

// selectors are the messages that this package sends.
type selectors struct {
	alloc, init, release, respondsToSelector,
	name, supportsFamily, maxBufferLength, maxThreadgroupMemoryLength, processInfo, operatingSystemVersionString,
	domain, code, localizedDescription,
	count, objectAtIndex,
	setLanguageVersion, setMathMode, setMathFloatingPointFunctions, setFastMathEnabled,
	newLibraryWithSource, newLibraryWithData, functionNames, newFunctionWithName, newComputePipelineState,
	maxTotalThreadsPerThreadgroup, threadExecutionWidth, staticThreadgroupMemoryLength,
	newBufferWithLength, newBufferWithBytesNoCopy, contents,
	newResidencySet, addAllocation, removeAllocation, requestResidency, endResidency, addResidencySet, removeResidencySet,
	newCommandQueue, commandBuffer, computeCommandEncoder, commit, waitUntilCompleted, status, err, gpuStartTime, gpuEndTime,
	setComputePipelineState, setBuffer, setBytes, dispatchThreadgroups, memoryBarrier, endEncoding objc.Selector
}

func newSelectors(rt objc.Runtime) *selectors {
	s := new(selectors)
	for name, at := range map[string]*objc.Selector{
		"alloc":               &s.alloc,
		"init":                &s.init,
		"release":             &s.release,
		"respondsToSelector:": &s.respondsToSelector,

		"name":                         &s.name,
		"supportsFamily:":              &s.supportsFamily,
		"maxBufferLength":              &s.maxBufferLength,
		"maxThreadgroupMemoryLength":   &s.maxThreadgroupMemoryLength,
		"processInfo":                  &s.processInfo,
		"operatingSystemVersionString": &s.operatingSystemVersionString,

		"domain":               &s.domain,
		"code":                 &s.code,
		"localizedDescription": &s.localizedDescription,
		"count":                &s.count,
		"objectAtIndex:":       &s.objectAtIndex,

		"setLanguageVersion:":                        &s.setLanguageVersion,
		"setMathMode:":                               &s.setMathMode,
		"setMathFloatingPointFunctions:":             &s.setMathFloatingPointFunctions,
		"setFastMathEnabled:":                        &s.setFastMathEnabled,
		"newLibraryWithSource:options:error:":        &s.newLibraryWithSource,
		"newLibraryWithData:error:":                  &s.newLibraryWithData,
		"functionNames":                              &s.functionNames,
		"newFunctionWithName:":                       &s.newFunctionWithName,
		"newComputePipelineStateWithFunction:error:": &s.newComputePipelineState,
		"maxTotalThreadsPerThreadgroup":              &s.maxTotalThreadsPerThreadgroup,
		"threadExecutionWidth":                       &s.threadExecutionWidth,
		"staticThreadgroupMemoryLength":              &s.staticThreadgroupMemoryLength,

		"newBufferWithLength:options:":                         &s.newBufferWithLength,
		"newBufferWithBytesNoCopy:length:options:deallocator:": &s.newBufferWithBytesNoCopy,
		"contents": &s.contents,

		"newResidencySetWithDescriptor:error:": &s.newResidencySet,
		"addAllocation:":                       &s.addAllocation,
		"removeAllocation:":                    &s.removeAllocation,
		"requestResidency":                     &s.requestResidency,
		"endResidency":                         &s.endResidency,
		"addResidencySet:":                     &s.addResidencySet,
		"removeResidencySet:":                  &s.removeResidencySet,

		"newCommandQueue":                        &s.newCommandQueue,
		"commandBuffer":                          &s.commandBuffer,
		"computeCommandEncoderWithDispatchType:": &s.computeCommandEncoder,
		"commit":                                 &s.commit,
		"waitUntilCompleted":                     &s.waitUntilCompleted,
		"status":                                 &s.status,
		"error":                                  &s.err,
		"GPUStartTime":                           &s.gpuStartTime,
		"GPUEndTime":                             &s.gpuEndTime,

		"setComputePipelineState:":                    &s.setComputePipelineState,
		"setBuffer:offset:atIndex:":                   &s.setBuffer,
		"setBytes:length:atIndex:":                    &s.setBytes,
		"dispatchThreadgroups:threadsPerThreadgroup:": &s.dispatchThreadgroups,
		"memoryBarrierWithScope:":                     &s.memoryBarrier,
		"endEncoding":                                 &s.endEncoding,
	} {
		*at = rt.Selector(name)
	}
	return s
}

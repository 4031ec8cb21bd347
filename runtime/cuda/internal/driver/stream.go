package driver

import (
	"time"
	"unsafe"
)

// NewStream returns a stream, which is independent of all others.
func (a *API) NewStream() (Stream, error) {
	const nonBlocking = 1
	var s Stream
	err := a.call(cuStreamCreate, uintptr(unsafe.Pointer(&s)), nonBlocking)
	return s, err
}

// Synchronize waits for all that is in a stream.
func (a *API) Synchronize(s Stream) error { return a.call(cuStreamSynchronize, uintptr(s)) }

// WaitEvent makes what comes next in s wait for what e was recorded after.
func (a *API) WaitEvent(s Stream, e Event) error {
	return a.call(cuStreamWaitEvent, uintptr(s), uintptr(e), 0)
}

// DestroyStream ends the use of a stream.
func (a *API) DestroyStream(s Stream) error { return a.call(cuStreamDestroy, uintptr(s)) }

// NewEvent returns an event that knows the time.
func (a *API) NewEvent() (Event, error) {
	var e Event
	err := a.call(cuEventCreate, uintptr(unsafe.Pointer(&e)), 0)
	return e, err
}

// Record puts an event into a stream.
func (a *API) Record(e Event, s Stream) error { return a.call(cuEventRecord, uintptr(e), uintptr(s)) }

// Elapsed returns the time between two events that have passed.
func (a *API) Elapsed(from, to Event) (time.Duration, error) {
	var ms float32
	err := a.call(cuEventElapsedTime, uintptr(unsafe.Pointer(&ms)), uintptr(from), uintptr(to))
	return time.Duration(float64(ms) * float64(time.Millisecond)), err
}

// DestroyEvent ends the use of an event.
func (a *API) DestroyEvent(e Event) error { return a.call(cuEventDestroy, uintptr(e)) }

// BeginCapture makes a stream keep launches rather than run them. Until
// EndCapture the goroutine has to stay on its thread, and what it may call is
// little: Launch.
func (a *API) BeginCapture(s Stream) error {
	const threadLocal = 1
	return a.call(cuStreamBeginCapture, uintptr(s), threadLocal)
}

// EndCapture returns what a stream has kept. If it is an error there is nothing
// to destroy.
func (a *API) EndCapture(s Stream) (Graph, error) {
	var g Graph
	err := a.call(cuStreamEndCapture, uintptr(s), uintptr(unsafe.Pointer(&g)))
	return g, err
}

// Instantiate makes a graph one that can be launched.
func (a *API) Instantiate(g Graph) (Exec, error) {
	var e Exec
	err := a.call(cuGraphInstantiate, uintptr(unsafe.Pointer(&e)), uintptr(g), 0)
	return e, err
}

// LaunchGraph puts all that a graph holds into a stream.
func (a *API) LaunchGraph(e Exec, s Stream) error {
	return a.call(cuGraphLaunch, uintptr(e), uintptr(s))
}

// DestroyGraph ends the use of a graph, not of what was made of it.
func (a *API) DestroyGraph(g Graph) error { return a.call(cuGraphDestroy, uintptr(g)) }

// DestroyExec ends the use of a graph that can be launched.
func (a *API) DestroyExec(e Exec) error { return a.call(cuGraphExecDestroy, uintptr(e)) }

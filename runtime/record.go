package runtime

import "time"

// A Recorder is a Queue that can keep launches, to run them again at a fraction
// of the cost.
type Recorder interface {
	Queue

	// Record returns what enqueue launches on the queue, barriers included,
	// instead of running it. enqueue must do nothing else with the device. If
	// it fails, its error is that of Record, and nothing is kept.
	Record(enqueue func() error) (Graph, error)
}

// A Graph is launches that are kept, with their arguments as they were: the
// buffers have to stay open, and what they hold when the graph runs is what
// its kernels see.
type Graph interface {
	// Launch enqueues everything on the queue that recorded it.
	Launch() error

	Close() error
}

// A Timer is a Queue that knows how long its device took.
type Timer interface {
	Queue

	// GPUTime returns the device's time from the first launch to the end of
	// what the last Wait waited for; 0 if there was nothing.
	GPUTime() time.Duration
}

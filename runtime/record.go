package runtime

import "time"

// A Recorder is a Queue that can keep launches, to run them again at a fraction
// of the cost.
type Recorder interface {
	Queue

	// Record returns what enqueue launches on the queue, barriers and copies
	// included, instead of running it. enqueue must do nothing else with the device. If
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

// A Copier is a Queue that copies between buffers, in the order of its launches.
type Copier interface {
	Queue

	// Copy enqueues the copies of count pieces of size bytes.
	Copy(to, from Pieces, size, count int) error
}

// Pieces are parts of a buffer. Each lies Stride bytes, at least its size, after
// the one before.
type Pieces struct {
	Buffer         Buffer
	Offset, Stride int
}

// A Timer is a Queue that knows how long its device took.
type Timer interface {
	Queue

	// GPUTime returns the device's time from the first launch to the end of
	// what the last Wait waited for; 0 if there was nothing.
	GPUTime() time.Duration
}

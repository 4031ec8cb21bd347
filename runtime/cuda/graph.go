package cuda

import (
	"errors"
	"fmt"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda/internal/driver"
)

// A graph is launches that were captured from the stream of a queue.
type graph struct {
	queue   *queue
	exec    driver.Exec
	kernels []*runtime.Kernel
	buffers []*buffer
	closed  bool
}

var errRecording = errors.New("the queue is recording")

// Record captures the launches of enqueue.
func (q *queue) Record(enqueue func() error) (runtime.Graph, error) {
	switch {
	case q.closed || q.library.closed.Load():
		return nil, errQueueClosed
	case q.recording != nil:
		return nil, errRecording
	}
	d := q.library.device
	if err := d.hold(); err != nil {
		return nil, err
	}
	g := &graph{queue: q}
	if err := d.do(func() error { return g.capture(enqueue) }); err != nil {
		return nil, errors.Join(err, d.release())
	}
	return g, nil
}

// capture runs enqueue while the stream keeps what is put into it.
func (g *graph) capture(enqueue func() error) error {
	q, api := g.queue, g.queue.library.device.api
	if err := api.BeginCapture(q.stream); err != nil {
		return err
	}
	q.recording, q.after = g, false
	err := enqueue()
	q.recording, q.after = nil, false
	captured, ended := api.EndCapture(q.stream)
	if ended != nil {
		return errors.Join(err, ended)
	}
	if err == nil {
		g.exec, err = api.Instantiate(captured)
	}
	return errors.Join(err, api.DestroyGraph(captured))
}

// add notes a launch that was captured.
func (g *graph) add(l runtime.Launch) {
	g.kernels = append(g.kernels, l.Kernel)
	for _, arg := range l.Args {
		if b, ok := arg.Buffer.(*buffer); ok {
			g.buffers = append(g.buffers, b)
		}
	}
}

// Launch puts everything into the stream again.
func (g *graph) Launch() error {
	q := g.queue
	switch {
	case g.closed:
		return errors.New("cuda: the graph is closed")
	case q.closed || q.library.closed.Load():
		return fmt.Errorf("cuda: %w", errQueueClosed)
	case q.recording != nil:
		return fmt.Errorf("cuda: %w", errRecording)
	}
	for _, b := range g.buffers {
		if b.closed {
			return fmt.Errorf("cuda: an argument of the graph: %w", errBufferClosed)
		}
	}
	api := q.library.device.api
	put := func() error {
		q.after = false
		return api.LaunchGraph(g.exec, q.stream)
	}
	return q.enqueue(put, g.kernels...)
}

// Close ends the use of g.
func (g *graph) Close() error {
	if g.closed {
		return nil
	}
	g.closed = true
	d := g.queue.library.device
	err := d.do(func() error { return d.api.DestroyExec(g.exec) })
	return errors.Join(known(err), d.release())
}

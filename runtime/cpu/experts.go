package cpu

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/marlingen/marlingen/runtime"
)

// strip is the number of outputs that are computed together.
const strip = 16

// An expertJob is the work list of a launch and what it takes to do it. It is a
// job: its goroutines first make the activations, then multiply.
type expertJob struct {
	call *call // of those that run as one, the first
	kind *kind
	in   int
	out  int

	matrices []matrix // [experts, projections]
	known    []bool   // which experts of a work list are in matrices
	items    []item
	sorted   []item
	segments []segment

	acts    []int8
	meta    []float32
	blocks  []rowBlock
	loads   []blockRef
	chunks  []chunk
	pending []cursor // of loads
	strips  []cursor // of chunks
	loaded  atomic.Int64
	done    atomic.Int64
}

// An item is consecutive rows of one expert: entries of the work list that
// follow one another.
type item struct{ expert, first, rows int }

// A segment is rows of an item that share each decoded weight. It is not so
// large that its activations leave the caches.
type segment struct {
	matrices    []matrix // by projection
	first, rows int
	matmuls     [projections]matmul
}

// A blockRef is block i of a segment.
type blockRef struct{ segment, i int }

// A chunk is some strips of a segment, which a goroutine computes at a time.
type chunk struct{ segment, first, end int }

// forget lets go of the arguments of a launch.
func (e *expertJob) forget() {
	clear(e.matrices)
	e.call, e.kind = nil, nil
}

// read reads and checks the work lists of c and of the launches joined to it, and
// the experts in them.
func (e *expertJob) read(c *call, k *kind) error {
	e.call, e.kind = c, k
	e.out, e.in = k.dims(c.shape)
	sized(&e.matrices, int(c.shape.Experts)*len(k.projections))
	e.items = e.items[:0]
	if err := e.list(c); err != nil {
		return err
	}
	for _, o := range c.joined {
		if err := e.list(o); err != nil {
			return err
		}
	}
	e.sorted = append(e.sorted[:0], e.items...)
	slices.SortFunc(e.sorted, func(a, b item) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(e.sorted); i++ {
		if a, b := e.sorted[i-1], e.sorted[i]; b.first < a.first+a.rows {
			return fmt.Errorf("argument work: row %d is in two items", b.first)
		}
	}
	return nil
}

// list reads the work list of c. An entry without rows is padding.
func (e *expertJob) list(c *call) error {
	clear(sized(&e.known, int(c.shape.Experts)))
	for i, w := range view[runtime.Work](c.bytes("work")) {
		switch {
		case w.Rows == 0:
			continue
		case w.Expert >= c.shape.Experts:
			return fmt.Errorf("argument work: item %d is of expert %d, and there are %d", i, w.Expert, c.shape.Experts)
		case int64(w.Rows) > int64(c.kernel.Tile):
			return fmt.Errorf("argument work: item %d has %d rows, and the kernel takes %d", i, w.Rows, c.kernel.Tile)
		case uint64(w.First)+uint64(w.Rows) > uint64(c.shape.Rows):
			return fmt.Errorf("argument work: item %d has rows %d to %d, and there are %d", i, w.First, uint64(w.First)+uint64(w.Rows)-1, c.shape.Rows)
		}
		if !e.known[w.Expert] {
			if err := e.expert(c, int(w.Expert)); err != nil {
				return fmt.Errorf("argument experts: expert %d: %w", w.Expert, err)
			}
			e.known[w.Expert] = true
		}
		it := item{int(w.Expert), int(w.First), int(w.Rows)}
		if n := len(e.items) - 1; n >= 0 && e.items[n].expert == it.expert && e.items[n].first+e.items[n].rows == it.first {
			e.items[n].rows += it.rows
			continue
		}
		e.items = append(e.items, it)
	}
	return nil
}

// matricesOf returns the matrices of an expert, by projection.
func (e *expertJob) matricesOf(expert int) []matrix {
	n := len(e.kind.projections)
	return e.matrices[expert*n : (expert+1)*n : (expert+1)*n]
}

// expert finds the matrices of an expert in the weights, for c.
func (e *expertJob) expert(c *call, expert int) error {
	weights, descriptor := c.bytes("weights"), c.bytes("experts")[expert*c.codec.expertSize():]
	ms := e.matricesOf(expert)
	for i, p := range e.kind.projections {
		d := descriptor[int(p)*c.codec.projectionSize():]
		m := &ms[i]
		m.out, m.in = e.out, e.in
		bits := binary.LittleEndian.Uint32(d[8*len(c.codec.parts):])
		if bits > 255 || !slices.Contains(c.codec.widths, uint8(bits)) {
			return fmt.Errorf("%v: codec %s has no %d-bit weights", p, c.codec.name, bits)
		}
		m.bits = uint8(bits)
		for i, part := range c.codec.parts {
			offset := binary.LittleEndian.Uint64(d[8*i:])
			size := part.size(uint64(bits), uint64(e.out), uint64(e.in))
			if offset > uint64(len(weights)) || size > uint64(len(weights))-offset {
				return fmt.Errorf("%v: %s of %d bytes at %d of weights of %d", p, part.Name, size, offset, len(weights))
			}
			if align := part.align(uint64(bits)); offset%align != 0 {
				return fmt.Errorf("%v: %s at %d of weights, want a multiple of %d", p, part.Name, offset, align)
			}
			m.parts[i] = weights[offset : offset+size : offset+size]
		}
	}
	if !c.compiledFor(ms) {
		return fmt.Errorf("its widths are not among %v, which %s was compiled for", c.kernel.Tuples, c.kernel.Symbol)
	}
	return nil
}

// compiledFor reports whether the kernel has a tuple with the widths of ms, the
// matrices that its pass reads.
func (c *call) compiledFor(ms []matrix) bool {
	for _, t := range c.kernel.Tuples {
		widths, n := c.widthsRead(c.kernel.Pass, t)
		same := n == len(ms)
		for i := range ms {
			same = same && widths[i] == ms[i].bits
		}
		if same {
			return true
		}
	}
	return c.kernel.Tuples == nil
}

const (
	// segmentBytes limits the activations of a segment, so that they stay in
	// a second-level cache while strips of weights pass by.
	segmentBytes = 512 << 10

	// waveBytes limits the activations that are held at a time.
	waveBytes = 16 << 20

	// chunkBytes is the least that is worth a chunk, in bytes of weights, and
	// chunksEach the number of chunks to aim at for each goroutine.
	chunkBytes = 64 << 10
	chunksEach = 32
)

// multiply computes every strip of every item.
func (e *expertJob) multiply() error {
	c := e.call
	in, projections := e.in, len(e.kind.projections)
	acts, meta := in*c.engine.digits(), groups(in)*c.engine.metas()
	most := max(1, segmentBytes/(acts*projections))
	wave := max(1, waveBytes/(acts*projections)) // rows
	e.segments = e.segments[:0]
	rows := 0
	for _, it := range e.items {
		n := (it.rows + most - 1) / most
		for i := range n {
			first, end := i*it.rows/n, (i+1)*it.rows/n
			s := segment{matrices: e.matricesOf(it.expert), first: it.first + first, rows: end - first}
			if rows+s.rows > wave && rows > 0 {
				if err := e.run(rows, acts, meta); err != nil {
					return err
				}
				rows = 0
			}
			e.segments = append(e.segments, s)
			rows += s.rows
		}
	}
	if rows == 0 {
		return nil
	}
	return e.run(rows, acts, meta)
}

// run computes the segments, which have the given number of rows in all, and
// forgets them. Rows have acts bytes of activations and meta floats.
func (e *expertJob) run(rows, acts, meta int) error {
	c := e.call
	projections := len(e.kind.projections)
	rest := rowBlock{rows * projections, sized(&e.acts, rows*projections*acts), sized(&e.meta, rows*projections*meta)}
	e.blocks, e.loads, e.chunks = e.blocks[:0], e.loads[:0], e.chunks[:0]
	strips, total := e.out/strip, 0
	for i := range e.segments {
		total += strips * e.cost(&e.segments[i])
	}
	target := max(chunkBytes, total/(c.engine.workers*chunksEach))
	for i := range e.segments {
		s := &e.segments[i]
		for p := range projections {
			from := len(e.blocks)
			for left := s.rows; left > 0; {
				n := c.engine.block(s.rows, left)
				e.blocks = append(e.blocks, rest.take(n))
				left -= n
			}
			m := &s.matrices[p]
			s.matmuls[p] = matmul{p, m, e.blocks[from:], c.engine.plan(m.bits, s.rows)}
		}
		for b := range s.matmuls[0].blocks {
			e.loads = append(e.loads, blockRef{i, b})
		}
		n := min(strips, max(1, strips*e.cost(s)/target))
		for k := range n {
			e.chunks = append(e.chunks, chunk{i, k * strips / n, (k + 1) * strips / n})
		}
	}
	workers := min(c.engine.workers, len(e.chunks))
	e.loaded.Store(0)
	e.done.Store(0)
	deal(sized(&e.pending, workers), len(e.loads))
	deal(sized(&e.strips, workers), len(e.chunks))
	c.share(workers, e)
	clear(e.segments)
	e.segments = e.segments[:0]
	if int(e.done.Load()) < len(e.chunks) {
		return c.ctx.Err()
	}
	return nil
}

// cost returns about what a strip of s costs, in bytes of weights read.
func (e *expertJob) cost(s *segment) int {
	cost := 0
	for _, m := range s.matrices {
		cost += e.in * (2*int(m.bits) + 4 + s.rows*e.call.engine.digits())
	}
	return cost
}

// work is what one goroutine does of e.
func (e *expertJob) work(worker int) {
	c := e.call
	s := c.scratches[worker]
	for c.ctx.Err() == nil {
		i, ok := take(e.pending, worker)
		if !ok {
			break
		}
		e.load(e.loads[i], s)
		e.loaded.Add(1)
	}
	if !await(&e.loaded, int64(len(e.loads)), c.ctx) {
		return
	}
	for c.ctx.Err() == nil {
		i, ok := take(e.strips, worker)
		if !ok {
			break
		}
		e.compute(e.chunks[i], e.upcoming(worker), s)
		e.done.Add(1)
	}
}

// load makes the activations of a block.
func (e *expertJob) load(b blockRef, scratch *scratch) {
	c, s := e.call, &e.segments[b.segment]
	blocks := s.matmuls[0].blocks
	first := s.first
	for _, before := range blocks[:b.i] {
		first += before.rows
	}
	inputs := sized(&scratch.inputs, blocks[b.i].rows)
	for r := range inputs {
		inputs[r] = &e.kind.input(c, first+r)[0]
	}
	for p := range s.matrices {
		c.engine.load(s.matmuls[p].blocks[b.i], &s.matrices[p], inputs)
	}
	clear(inputs)
}

// upcoming returns the chunk that a worker takes next of its own. If there is
// none, it has no strips.
func (e *expertJob) upcoming(worker int) chunk {
	if i, ok := e.strips[worker].peek(); ok {
		return e.chunks[i]
	}
	return chunk{}
}

// compute computes the strips of a chunk, and looks ahead to the one after it.
func (e *expertJob) compute(k, after chunk, scratch *scratch) {
	c, s := e.call, &e.segments[k.segment]
	y := &scratch.y
	for p := range s.matrices {
		sized(&y[p], s.rows)
	}
	var next lookahead
	for n := k.first; n < k.end; n++ {
		to, at := s.matrices, n+1
		switch {
		case at < k.end:
		case after.first < after.end:
			to, at = e.segments[after.segment].matrices, after.first
		default:
			at = n
		}
		next.strip(n, s.matrices, s.rows, to, at)
		for p := range s.matrices {
			c.engine.strip(y[p], &s.matmuls[p], n, &next, &scratch.panel)
		}
		e.kind.output(c, s, n, y)
	}
}

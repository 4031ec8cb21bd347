package tokenizer

import "math"

// A pair is two neighbouring tokens.
type pair struct{ left, right int32 }

// A merge is what becomes of a pair.
type merge struct {
	rank uint32 // place in model.merges; the lowest goes first
	id   int32
}

// none is the rank of a pair that no merge names.
const none = math.MaxUint32

// A node is a token of a piece, at the index of its first byte.
type node struct {
	id         int32
	prev, next int32 // indices; -1 and the piece's length at its ends
	merge      merge // of this token and the next
}

// merge appends the tokens of a piece: of its bytes' tokens, the pair of the
// lowest rank is merged, the leftmost of several, until no merge is left.
func (e *encoder) merge(piece string) {
	e.nodes, e.queue = e.nodes[:0], e.queue[:0]
	end := int32(len(piece))
	for i := range end {
		e.nodes = append(e.nodes, node{id: e.bytes[piece[i]], prev: i - 1, next: i + 1})
	}
	for i := range end {
		e.offer(i)
	}
	for len(e.queue) > 0 {
		rank, at := e.queue.pop()
		left := &e.nodes[at]
		if left.merge.rank != rank {
			continue // since then, one of the two has become part of another token
		}
		right := &e.nodes[left.next]
		right.merge.rank = none
		left.id, left.next = left.merge.id, right.next
		if left.next < end {
			e.nodes[left.next].prev = at
		}
		e.offer(at)
		if left.prev >= 0 {
			e.offer(left.prev)
		}
	}
	for i := int32(0); i < end; i = e.nodes[i].next {
		e.ids = append(e.ids, e.nodes[i].id)
	}
}

// offer looks up the merge of a node with the next and queues it.
func (e *encoder) offer(at int32) {
	n := &e.nodes[at]
	n.merge.rank = none
	if int(n.next) == len(e.nodes) {
		return
	}
	if m, ok := e.merges[pair{n.id, e.nodes[n.next].id}]; ok {
		n.merge = m
		e.queue.push(m.rank, at)
	}
}

// A queue is a binary heap of merges: a rank in the upper half of a number,
// the index of a node in the lower.
type queue []uint64

func (q *queue) push(rank uint32, at int32) {
	h := append(*q, uint64(rank)<<32|uint64(at))
	*q = h
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent] <= h[i] {
			return
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

// pop removes the merge of the lowest rank, the leftmost of several.
func (q *queue) pop() (rank uint32, at int32) {
	h := *q
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	*q = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return uint32(top >> 32), int32(uint32(top))
		}
		if child+1 < last && h[child+1] < h[child] {
			child++
		}
		if h[i] <= h[child] {
			return uint32(top >> 32), int32(uint32(top))
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// prefetchNear asks for the indices of a tile ahead of w, for the first level of
// caches.
func (k *z) prefetchNear(bits int, w reg.GPVirtual) {
	for i := 0; i < 32*bits; i += 64 {
		k.PREFETCHT0(at(w, 2048+i))
	}
}

// A following asks for the indices that follow those of a call, 64 bytes of some
// stretches of them for each tile: the caches' own prefetchers run ahead of
// several slow streams, not of a fast one.
type following struct {
	*z
	own                int // stretches
	first, apart, rest reg.GPVirtual
}

// following returns what asks for the indices that follow n tiles at w. As for
// the last stretch, it does for what is at parameter ahead.
func (k *z) following(bits int, w, n reg.GPVirtual) *following {
	f := &following{k, ownStretches(bits), k.GP64(), k.GP64(), k.load("ahead")}
	k.IMUL3Q(U32(32*bits), n, f.first)
	k.ADDQ(w, f.first)
	k.MOVQ(n, f.apart)
	k.SHLQ(U8(6), f.apart)
	return f
}

// followingPart is following for a part of the tiles of a strip: where the
// stretches begin for them, and how far apart, are parameters.
func (k *z) followingPart(bits int) *following {
	return &following{k, ownStretches(bits), k.load("next"), k.load("apart"), k.load("ahead")}
}

// ownStretches is what package simd has in Own.
func ownStretches(bits int) int { return max(1, (bits-1)/2) }

// tile asks for what belongs to a tile.
func (f *following) tile() {
	f.PREFETCHT1(at(f.first, 0))
	for i := 1; i < f.own; i++ {
		f.PREFETCHT1(indexed(f.first, f.apart, uint8(i), 0))
	}
	f.PREFETCHT1(at(f.rest, 0))
	f.ADDQ(U32(64), f.first)
	f.ADDQ(U32(64), f.rest)
}

const multiplyArgs = "func(y *[16]float32, w *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, ahead uintptr)"

// steps returns the steps of a group, in the order of outputs, and moves on to
// the next.
func (k *z) steps(steps, stride reg.GPVirtual, outputs reg.VecVirtual) reg.VecVirtual {
	v := k.ZMM()
	k.VCVTPH2PS(at(steps, 0), v)
	k.PREFETCHT0(at(steps, 64))
	k.VPERMPS(v, outputs, v)
	k.ADDQ(stride, steps)
	return v
}

// add sets acc, integers, to sum + acc·(step·scale).
func (k *z) add(acc, step reg.VecVirtual, scale Mem, sum Op) {
	p := k.ZMM()
	k.VCVTDQ2PS(acc, acc)
	k.VMULPS_BCST(scale, step, p)
	k.VFMADD213PS(sum, p, acc)
}

// Tiles write the code that goes through the tiles of a strip or of a panel.
type tiles interface {
	// begin comes before the first tile; n is how many there are.
	begin(n reg.GPVirtual)

	// outputs returns the order of outputs in sums, at the end of a group.
	outputs() reg.VecVirtual

	// tile begins a tile and returns its indices: four times 16 dwords, the four
	// indices of each output, in that order.
	tile() [4]reg.VecVirtual

	// between comes after multiplication i of the n of a tile, which are those
	// with the first of its registers before those with the next.
	between(i, n int)

	// next ends a tile.
	next()
}

// A strip decodes each tile while the one before it is multiplied. Decoding is a
// matter of shuffles, which one port takes alone: in one piece they would keep
// the other waiting, since ports are given out long before anything runs.
type strip struct {
	*z
	bits      int
	w, last   reg.GPVirtual // the tile to decode, and the last one
	panel     reg.GPVirtual // where to keep the order and the indices, if anywhere
	following *following
	c         [4]reg.VecVirtual
	steps     []func() // to decode the tile at w
}

// strip returns the strip at parameter w, to be multiplied with so many planes.
func (k *z) strip(bits, planes int) *strip {
	t := &strip{z: k, bits: bits, w: k.load("w"), last: k.GP64()}
	for s := range t.c {
		t.c[s] = k.ZMM()
	}
	t.steps = k.decoding(bits, planes, t.w, t.c)
	return t
}

func (t *strip) outputs() reg.VecVirtual { return t.constant(offset(t.z.outputs, 64*t.bits)) }

func (t *strip) begin(n reg.GPVirtual) {
	if t.panel != nil {
		t.VMOVDQU64(t.outputs(), at(t.panel, 0))
		t.ADDQ(U32(panelHead), t.panel)
	}
	t.LEAQ(at(n, -1), t.last)
	t.IMUL3Q(U32(32*t.bits), t.last, t.last)
	t.ADDQ(t.w, t.last)
	if t.panel == nil {
		t.following = t.z.following(t.bits, t.w, n)
	} else {
		t.following = t.followingPart(t.bits)
	}
	t.fetch()
	for _, step := range t.steps {
		step()
	}
	t.next()
}

// next moves on to the next tile to decode, or stays at the last one.
func (t *strip) next() {
	next := t.GP64()
	t.LEAQ(at(t.w, 32*t.bits), next)
	t.CMPQ(t.w, t.last)
	t.CMOVQCS(next, t.w)
}

// fetch asks for what will be needed, for a tile of it.
func (t *strip) fetch() {
	t.prefetchNear(t.bits, t.w)
	t.following.tile()
}

func (t *strip) tile() [4]reg.VecVirtual {
	t.fetch()
	if t.panel != nil {
		for s, v := range t.c {
			t.VMOVDQU64(v, at(t.panel, 64*s))
		}
		t.ADDQ(U32(256), t.panel)
	}
	return t.c
}

func (t *strip) between(i, n int) {
	for _, step := range t.steps[i*len(t.steps)/n : (i+1)*len(t.steps)/n] {
		step()
	}
}

// panelHead is the bytes of a panel before its tiles: the order of its outputs.
const panelHead = 64

// The most rows that a kernel takes. The registers that hold their sums leave
// what decoding takes, or next to nothing. One that makes a panel takes fewer:
// panels are for more rows, in blocks of about a size.
const (
	dotRows           = 20
	spreadRows        = 16
	dotExactRows      = 4
	multiplyRows      = 16
	multiplyExactRows = 6
)

// Ends say what becomes of the sums of each plane of activations.
type ends interface {
	// start sets the sums before a group.
	start(acc []reg.VecVirtual)

	// end adds the sums of a group to where they belong, and moves on.
	end(acc []reg.VecVirtual, step reg.VecVirtual)
}

// products multiplies tiles with planes of activations.
func (k *z) products(planes int, src tiles, to ends) {
	acts := k.load("acts")
	steps, stride, n := k.load("steps"), k.load("stride"), k.load("tiles")
	// Enough sums to hide how long it takes to add to one.
	sets := 1
	for sets < 4 && planes*sets < 10 {
		sets *= 2
	}
	acc := make([]reg.VecVirtual, planes*sets)
	for i := range acc {
		acc[i] = k.ZMM()
	}
	src.begin(n)
	k.groups(n, func(n reg.GPVirtual) {
		to.start(acc[:planes])
		for _, a := range acc[planes:] {
			k.VPXORD(a, a, a)
		}
		k.loop(n, func() {
			for s, v := range src.tile() {
				for p := range planes {
					i := s*planes + p
					k.VPDPBUSD_BCST(at(acts, 4*i), v, acc[s%sets*planes+p])
					src.between(i, 4*planes)
				}
			}
			k.ADDQ(U32(16*planes), acts)
			src.next()
		})
	}, func() {
		for n := len(acc) / 2; n >= planes; n /= 2 {
			for i := range n {
				k.VPADDD(acc[n+i], acc[i], acc[i])
			}
		}
		to.end(acc[:planes], k.steps(steps, stride, src.outputs()))
	})
	k.end()
}

// A panel loads tiles that were decoded before. It fetches nothing ahead:
// decoding did.
type panel struct {
	*z
	w     reg.GPVirtual
	order reg.VecVirtual
}

// panel returns the panel at parameter w.
func (k *z) panel() *panel { return &panel{z: k, w: k.load("w")} }

func (p *panel) outputs() reg.VecVirtual { return p.order }

func (p *panel) begin(reg.GPVirtual) {
	p.order = p.constant(at(p.w, 0))
	p.ADDQ(U32(panelHead), p.w)
}

func (p *panel) tile() (c [4]reg.VecVirtual) {
	for s := range c {
		c[s] = p.ZMM()
		p.VMOVDQU64(at(p.w, 64*s), c[s])
	}
	return c
}

func (p *panel) between(_, _ int) {}

func (p *panel) next() { p.ADDQ(U32(256), p.w) }

// dotRows writes the kernel of several rows of 8-bit activations.
func (k *z) dotRows(bits, rows int) {
	k.function(dotName(bits, rows), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(rows, k.strip(bits, rows), &wholes{k, y, meta, rows, wide(bits)})
}

// dotExact writes the kernel of rows of activations in four digits.
func (k *z) dotExact(bits, rows int) {
	k.function(dotExactName(bits, rows), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(4*rows, k.strip(bits, 4*rows), &digits{k, y, meta, rows})
}

const spreadArgs = "func(panel *byte, y *[16]float32, w *byte, acts *int8, meta *float32, steps *byte, stride, tiles int, next, ahead uintptr, apart int)"

// spread writes the kernel that does what that of spreadRows does, and makes a
// panel.
func (k *z) spread(bits int) {
	k.function(fmt.Sprint("Spread", bits), spreadArgs)
	y, meta, strip := k.load("y"), k.load("meta"), k.strip(bits, spreadRows)
	strip.panel = k.load("panel")
	k.products(spreadRows, strip, &wholes{k, y, meta, spreadRows, wide(bits)})
}

// spreadExact is spread for activations in four digits.
func (k *z) spreadExact(bits int) {
	k.function(fmt.Sprint("SpreadExact", bits), spreadArgs)
	y, meta, strip := k.load("y"), k.load("meta"), k.strip(bits, 4*dotExactRows)
	strip.panel = k.load("panel")
	k.products(4*dotExactRows, strip, &digits{k, y, meta, dotExactRows})
}

// multiply writes the kernel that adds to y the products of a panel with rows
// of 8-bit activations.
func (k *z) multiply(rows int, wide bool) {
	k.function(fmt.Sprint("Multiply", suffix(wide), rows), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(rows, k.panel(), &wholes{k, y, meta, rows, wide})
}

// multiplyExact writes the kernel that adds to y the products of a panel with
// rows of activations in four digits.
func (k *z) multiplyExact(rows int) {
	k.function(fmt.Sprint("MultiplyExact", rows), multiplyArgs)
	y, meta := k.load("y"), k.load("meta")
	k.products(4*rows, k.panel(), &digits{k, y, meta, rows})
}

// wholes are sums of rows of 8-bit activations, which are added to those at y.
type wholes struct {
	*z
	y, meta reg.GPVirtual
	rows    int
	wide    bool
}

func (w *wholes) start(acc []reg.VecVirtual) {
	for r := range w.rows {
		if w.wide {
			w.VPXORD(acc[r], acc[r], acc[r])
			continue
		}
		w.VPBROADCASTD(at(w.meta, 4*(w.rows+r)), acc[r])
	}
}

func (w *wholes) end(acc []reg.VecVirtual, step reg.VecVirtual) {
	for r := range w.rows {
		if w.wide {
			w.VPADDD(acc[r], acc[r], acc[r])
			w.VPADDD_BCST(at(w.meta, 4*(w.rows+r)), acc[r], acc[r])
		}
		w.add(acc[r], step, at(w.meta, 4*r), at(w.y, 64*r))
		w.VMOVUPS(acc[r], at(w.y, 64*r))
	}
	w.ADDQ(U32(8*w.rows), w.meta)
}

// digits are sums of rows of activations in four digits, by rows and digits,
// which are added to those at y.
type digits struct {
	*z
	y, meta reg.GPVirtual
	rows    int
}

func (d *digits) start(acc []reg.VecVirtual) {
	for _, a := range acc {
		d.VPXORD(a, a, a)
	}
}

func (d *digits) end(acc []reg.VecVirtual, step reg.VecVirtual) {
	low, shift := d.dwordsOf(0xffff), d.dwordsOf(math.Float32bits(1<<16))
	for r := range d.rows {
		s := acc[4*r : 4*r+4]
		// s[2] and s[0] become the sum, in units of 2^16 and of 1.
		for i := range 2 {
			d.VPSLLD(U8(8), s[2*i+1], s[2*i+1])
			d.VPADDD(s[2*i+1], s[2*i], s[2*i])
			d.VPSUBD_BCST(at(d.meta, 4*((2-i)*d.rows+r)), s[2*i], s[2*i])
		}
		d.VPSRAD(U8(16), s[0], s[1])
		d.VPADDD(s[1], s[2], s[2])
		d.VPANDD(low, s[0], s[0])
		d.VCVTDQ2PS(s[0], s[0])
		d.VCVTDQ2PS(s[2], s[2])
		d.VMULPS(shift, s[2], s[2])
		d.VADDPS(s[2], s[0], s[0])
		d.VMULPS_BCST(at(d.meta, 4*r), step, s[1])
		d.VFMADD213PS(at(d.y, 64*r), s[1], s[0])
		d.VMOVUPS(s[0], at(d.y, 64*r))
	}
	d.ADDQ(U32(12*d.rows), d.meta)
}

// Command _asm writes the assembly of package simd.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	log.SetFlags(0)
	for name, kernels := range map[string]func(*asm){"avx512": avx512, "avx2": avx2} {
		c := &asm{Context: build.NewContext(), set: name}
		c.ConstraintExpr("amd64")
		kernels(c)
		file, err := c.Result()
		if err != nil {
			log.Fatal(err)
		}
		if err := pass.Compile.Execute(file); err != nil {
			log.Fatal(err)
		}
		cfg := printer.Config{Name: "_asm/" + name + ".go", Pkg: "simd"}
		for path, p := range map[string]printer.Printer{
			name + "_amd64.s": printer.NewGoAsm(cfg), name + "_stubs_amd64.go": printer.NewStubs(cfg),
		} {
			text, err := p.Print(file)
			if err != nil {
				log.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join("..", path), text, 0o644); err != nil {
				log.Fatal(err)
			}
		}
	}
}

// An asm is a file of assembly for one instruction set.
type asm struct {
	*build.Context
	set  string
	next int // number of the next label
}

// function begins a function whose name is that of the set and of what it does.
func (c *asm) function(name, signature string, doc ...string) {
	c.Function(c.set + name)
	c.Attributes(build.NOSPLIT)
	c.SignatureExpr(signature)
	c.Pragma("noescape")
	if len(doc) > 0 {
		doc[0] = c.set + name + " " + doc[0]
	}
	c.Doc(doc...)
}

// end ends a function.
func (c *asm) end() {
	c.VZEROUPPER()
	c.RET()
}

// load returns a register that holds a parameter.
func (c *asm) load(name string) reg.GPVirtual {
	r := c.GP64()
	c.Load(c.Param(name), r)
	return r
}

// loop repeats body n times, a register that it counts down to 0. n is not 0.
func (c *asm) loop(n reg.GPVirtual, body func()) {
	c.next++
	label := fmt.Sprintf("loop%d", c.next)
	c.Label(label)
	body()
	c.DECQ(n)
	c.JNZ(operand.LabelRef(label))
}

// label returns a new label.
func (c *asm) label(word string) (name string, ref operand.LabelRef) {
	c.next++
	name = fmt.Sprintf("%s%d", word, c.next)
	return name, operand.LabelRef(name)
}

// prefetch asks for the next 128 bytes of what will be needed.
func (c *asm) prefetch(ahead reg.GPVirtual) {
	c.PREFETCHT1(at(ahead, 0))
	c.PREFETCHT1(at(ahead, 64))
	c.ADDQ(operand.U32(128), ahead)
}

// data returns a constant of the given bytes.
func (c *asm) data(name string, b []byte) operand.Mem {
	m := c.StaticGlobal(c.set + name)
	c.DataAttributes(build.RODATA | build.NOPTR)
	for i := 0; i < len(b); i += 8 {
		var v uint64
		for j := range 8 {
			v |= uint64(b[i+j]) << (8 * j)
		}
		c.AddDatum(i, operand.U64(v))
	}
	return m
}

// dwords returns a constant of n 4-byte elements.
func (c *asm) dwords(name string, n int, at func(i int) uint32) operand.Mem {
	var b []byte
	for i := range n {
		v := at(i)
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return c.data(name, b)
}

func at(base reg.GPVirtual, disp int) operand.Mem { return operand.Mem{Base: base, Disp: disp} }

func indexed(base, index reg.GPVirtual, scale uint8, disp int) operand.Mem {
	return operand.Mem{Base: base, Index: index, Scale: scale, Disp: disp}
}

// widths are the bits of a weight.
var widths = []int{2, 3, 4, 5, 6, 7, 8}

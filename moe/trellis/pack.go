package trellis

import "fmt"

// Pack stores indices, row-major [out, in], in tiles.
func Pack(indices []uint8, bits uint8, out, in int) ([]byte, error) {
	if err := CheckShape(bits, out, in); err != nil {
		return nil, err
	}
	if len(indices) != out*in {
		return nil, fmt.Errorf("%d indices for %d×%d weights", len(indices), out, in)
	}
	for at, index := range indices {
		if int(index)>>bits != 0 {
			return nil, fmt.Errorf("index %d at row %d, column %d does not fit in %d bits", index, at/in, at%in, bits)
		}
	}
	packed := make([]byte, Indices.Size(bits, out, in))
	for o := range out {
		packRow(packed, indices[o*in:(o+1)*in], int(bits), o)
	}
	return packed, nil
}

// packRow stores the indices of row o.
func packRow(packed []byte, row []uint8, bits, o int) {
	for i := 0; i < len(row); i += 8 {
		var word uint64
		for j, index := range row[i : i+8] {
			word |= uint64(index) << (j * bits)
		}
		at := place(len(row), bits, o, i)
		for j := range bits {
			packed[at+j] = byte(word >> (8 * j))
		}
	}
}

// Unpack returns the indices, row-major [out, in], of tiles that Pack stored.
func Unpack(packed []byte, bits uint8, out, in int) ([]uint8, error) {
	if err := CheckShape(bits, out, in); err != nil {
		return nil, err
	}
	if want := Indices.Size(bits, out, in); len(packed) != want {
		return nil, fmt.Errorf("%d bytes of indices for %d×%d weights of %d bits, want %d", len(packed), out, in, bits, want)
	}
	indices := make([]uint8, out*in)
	for o := range out {
		for i := 0; i < in; i += 8 {
			word := load(packed[place(in, int(bits), o, i):], int(bits))
			for j := range 8 {
				indices[o*in+i+j] = uint8(word & (1<<bits - 1))
				word >>= bits
			}
		}
	}
	return indices, nil
}

// place returns the byte at which the index of row o and column i starts, for
// an i that is a multiple of eight.
func place(in, bits, o, i int) int {
	tile := o/Tile*(in/Tile) + i/Tile
	return (32*tile + 2*(o%Tile) + i%Tile/8) * bits
}

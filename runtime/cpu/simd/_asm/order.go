package main

// order returns which of the 16 inputs of a tile stands at place i of its
// activations. Widths that divide 8 are taken from bytes by shifts alone, and
// those of 3 bits from pairs of them, in the order in which that gives them.
func order(bits, i int) int {
	dword, b := i/4, i%4
	switch bits {
	case 2:
		return 4*b + dword
	case 3:
		return 8*(dword/2) + 2*b + dword%2
	case 4:
		return 8*(dword%2) + 2*b + dword/2
	}
	return i
}

// packedOrders returns which byte of those of four tiles stands at each place of
// their activations, if they were packed by 128-bit lanes: the first four inputs
// of each tile, then the next four of each; 64 bytes for each width from 0 on.
func packedOrders() (b []byte) {
	for bits := range 9 {
		for tile := range 4 {
			for i := range 16 {
				in := order(bits, i)
				b = append(b, byte(16*(in/4)+4*tile+in%4))
			}
		}
	}
	return b
}

// digitOrders returns which byte of 16 dwords, the digits of 16 inputs, stands
// at each place of the activations of a tile in four planes; 64 bytes for each
// width from 0 on.
func digitOrders() (b []byte) {
	for bits := range 9 {
		for dword := range 4 {
			for plane := range 4 {
				for i := range 4 {
					b = append(b, byte(4*order(bits, 4*dword+i)+plane))
				}
			}
		}
	}
	return b
}

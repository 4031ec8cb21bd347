package cpu

import "encoding/binary"

// A decoder writes the weights of a strip, index − (2^bits − 1)/2, to dst. src
// holds up to 8 tiles of 16×16 indices; the weights of output o and tile t begin
// at dst[o·128 + 16·t]. Sixteen weights are 2·bits bytes of a tile.
type decoder func(dst *[strip * group]float32, src []byte)

var decoders = [9]decoder{2: decode2, 3: decode3, 4: decode4, 5: decode5, 6: decode6, 7: decode7, 8: decode8}

// The levels of each width, looked up several at a time as far as that keeps
// the tables in the first-level cache.
var (
	levels2 = quads()
	levels3 = [64][2]float32(pairs(3))
	levels4 = [256][2]float32(pairs(4))
	levels5 = [1024][2]float32(pairs(5))
	levels6 = [64]float32(singles(6))
	levels7 = [128]float32(singles(7))
	levels8 = [256]float32(singles(8))
)

func singles(bits int) []float32 {
	levels := make([]float32, 1<<bits)
	for i := range levels {
		levels[i] = float32(i) - float32(len(levels)-1)/2
	}
	return levels
}

func pairs(bits int) [][2]float32 {
	one := singles(bits)
	two := make([][2]float32, len(one)*len(one))
	for i := range two {
		two[i] = [2]float32{one[i%len(one)], one[i/len(one)]}
	}
	return two
}

func quads() (four [256][4]float32) {
	two := pairs(2)
	for i := range four {
		low, high := two[i%16], two[i/16]
		four[i] = [4]float32{low[0], low[1], high[0], high[1]}
	}
	return four
}

// at returns the place in dst of 16 weights.
func at(dst *[strip * group]float32, o, tile int) *[16]float32 {
	return (*[16]float32)(dst[o*group+16*tile:])
}

func decode2(dst *[strip * group]float32, src []byte) {
	for tile := 0; len(src) >= 64; tile++ {
		for o := range 16 {
			w, v := at(dst, o, tile), binary.LittleEndian.Uint32(src[4*o:])
			*(*[4]float32)(w[0:]) = levels2[v&255]
			*(*[4]float32)(w[4:]) = levels2[v>>8&255]
			*(*[4]float32)(w[8:]) = levels2[v>>16&255]
			*(*[4]float32)(w[12:]) = levels2[v>>24]
		}
		src = src[64:]
	}
}

func decode3(dst *[strip * group]float32, src []byte) {
	for tile := 0; len(src) >= 96; tile++ {
		for o := range 16 {
			w := at(dst, o, tile)
			v := uint64(binary.LittleEndian.Uint32(src[6*o:])) | uint64(binary.LittleEndian.Uint16(src[6*o+4:]))<<32
			*(*[2]float32)(w[0:]) = levels3[v&63]
			*(*[2]float32)(w[2:]) = levels3[v>>6&63]
			*(*[2]float32)(w[4:]) = levels3[v>>12&63]
			*(*[2]float32)(w[6:]) = levels3[v>>18&63]
			*(*[2]float32)(w[8:]) = levels3[v>>24&63]
			*(*[2]float32)(w[10:]) = levels3[v>>30&63]
			*(*[2]float32)(w[12:]) = levels3[v>>36&63]
			*(*[2]float32)(w[14:]) = levels3[v>>42&63]
		}
		src = src[96:]
	}
}

func decode4(dst *[strip * group]float32, src []byte) {
	for tile := 0; len(src) >= 128; tile++ {
		for o := range 16 {
			w, v := at(dst, o, tile), binary.LittleEndian.Uint64(src[8*o:])
			*(*[2]float32)(w[0:]) = levels4[v&255]
			*(*[2]float32)(w[2:]) = levels4[v>>8&255]
			*(*[2]float32)(w[4:]) = levels4[v>>16&255]
			*(*[2]float32)(w[6:]) = levels4[v>>24&255]
			*(*[2]float32)(w[8:]) = levels4[v>>32&255]
			*(*[2]float32)(w[10:]) = levels4[v>>40&255]
			*(*[2]float32)(w[12:]) = levels4[v>>48&255]
			*(*[2]float32)(w[14:]) = levels4[v>>56]
		}
		src = src[128:]
	}
}

func decode5(dst *[strip * group]float32, src []byte) {
	for tile := 0; len(src) >= 160; tile++ {
		for o := range 16 {
			w, v := at(dst, o, tile), binary.LittleEndian.Uint64(src[10*o:])
			*(*[2]float32)(w[0:]) = levels5[v&1023]
			*(*[2]float32)(w[2:]) = levels5[v>>10&1023]
			*(*[2]float32)(w[4:]) = levels5[v>>20&1023]
			*(*[2]float32)(w[6:]) = levels5[v>>30&1023]
			*(*[2]float32)(w[8:]) = levels5[v>>40&1023]
			*(*[2]float32)(w[10:]) = levels5[v>>50&1023]
			v = binary.LittleEndian.Uint64(src[10*o+2:]) // from bit 16 on
			*(*[2]float32)(w[12:]) = levels5[v>>44&1023]
			*(*[2]float32)(w[14:]) = levels5[v>>54]
		}
		src = src[160:]
	}
}

func decode6(dst *[strip * group]float32, src []byte) {
	for tile := 0; len(src) >= 192; tile++ {
		for o := range 16 {
			w, v := at(dst, o, tile), binary.LittleEndian.Uint64(src[12*o:])
			w[0] = levels6[v&63]
			w[1] = levels6[v>>6&63]
			w[2] = levels6[v>>12&63]
			w[3] = levels6[v>>18&63]
			w[4] = levels6[v>>24&63]
			w[5] = levels6[v>>30&63]
			w[6] = levels6[v>>36&63]
			w[7] = levels6[v>>42&63]
			v = binary.LittleEndian.Uint64(src[12*o+4:]) // from bit 32 on
			w[8] = levels6[v>>16&63]
			w[9] = levels6[v>>22&63]
			w[10] = levels6[v>>28&63]
			w[11] = levels6[v>>34&63]
			w[12] = levels6[v>>40&63]
			w[13] = levels6[v>>46&63]
			w[14] = levels6[v>>52&63]
			w[15] = levels6[v>>58]
		}
		src = src[192:]
	}
}

func decode7(dst *[strip * group]float32, src []byte) {
	for tile := 0; len(src) >= 224; tile++ {
		for o := range 16 {
			w, v := at(dst, o, tile), binary.LittleEndian.Uint64(src[14*o:])
			w[0] = levels7[v&127]
			w[1] = levels7[v>>7&127]
			w[2] = levels7[v>>14&127]
			w[3] = levels7[v>>21&127]
			w[4] = levels7[v>>28&127]
			w[5] = levels7[v>>35&127]
			w[6] = levels7[v>>42&127]
			w[7] = levels7[v>>49&127]
			v = binary.LittleEndian.Uint64(src[14*o+6:]) // from bit 48 on
			w[8] = levels7[v>>8&127]
			w[9] = levels7[v>>15&127]
			w[10] = levels7[v>>22&127]
			w[11] = levels7[v>>29&127]
			w[12] = levels7[v>>36&127]
			w[13] = levels7[v>>43&127]
			w[14] = levels7[v>>50&127]
			w[15] = levels7[v>>57]
		}
		src = src[224:]
	}
}

func decode8(dst *[strip * group]float32, src []byte) {
	for tile := 0; len(src) >= 256; tile++ {
		for o := range 16 {
			w, v := at(dst, o, tile), binary.LittleEndian.Uint64(src[16*o:])
			w[0] = levels8[v&255]
			w[1] = levels8[v>>8&255]
			w[2] = levels8[v>>16&255]
			w[3] = levels8[v>>24&255]
			w[4] = levels8[v>>32&255]
			w[5] = levels8[v>>40&255]
			w[6] = levels8[v>>48&255]
			w[7] = levels8[v>>56]
			v = binary.LittleEndian.Uint64(src[16*o+8:])
			w[8] = levels8[v&255]
			w[9] = levels8[v>>8&255]
			w[10] = levels8[v>>16&255]
			w[11] = levels8[v>>24&255]
			w[12] = levels8[v>>32&255]
			w[13] = levels8[v>>40&255]
			w[14] = levels8[v>>48&255]
			w[15] = levels8[v>>56]
		}
		src = src[256:]
	}
}

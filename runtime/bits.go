package runtime

import (
	"fmt"
	"strconv"
	"strings"
)

// A BitTuple holds the widths, in bits per weight, of an expert's gate, up and
// down projections. It has one spelling everywhere: 6_2_3.
type BitTuple struct{ Gate, Up, Down uint8 }

func (b BitTuple) String() string { return fmt.Sprintf("%d_%d_%d", b.Gate, b.Up, b.Down) }

// MarshalText writes what String returns, so that a tuple can be a JSON key.
func (b BitTuple) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText parses what String returns.
func (b *BitTuple) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBitTuple(string(text))
	return err
}

// ParseBitTuple parses the spelling 6_2_3. Widths of 1 to 32 are accepted;
// which of them can be run is for a codec and its kernels to say.
func ParseBitTuple(s string) (BitTuple, error) {
	var widths []uint8
	for part := range strings.SplitSeq(s, "_") {
		width, err := strconv.ParseUint(part, 10, 8)
		if err != nil || width < 1 || width > 32 || part[0] == '0' || part[0] == '+' {
			return BitTuple{}, fmt.Errorf("%q is not a bit tuple; write gate_up_down, as in 6_2_3", s)
		}
		widths = append(widths, uint8(width))
	}
	if len(widths) != 3 {
		return BitTuple{}, fmt.Errorf("%q is not a bit tuple; write gate_up_down, as in 6_2_3", s)
	}
	return BitTuple{Gate: widths[0], Up: widths[1], Down: widths[2]}, nil
}

// Compare orders tuples by gate, then up, then down.
func (b BitTuple) Compare(c BitTuple) int { return int(b.key()) - int(c.key()) }

func (b BitTuple) key() uint32 { return uint32(b.Gate)<<16 | uint32(b.Up)<<8 | uint32(b.Down) }

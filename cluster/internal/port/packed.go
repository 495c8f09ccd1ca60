package port

import "fmt"

// memberlist writes its messages in MessagePack. What is read here is as much of
// that as it uses, of an intake and within its bounds.

// packedKind is what a value of MessagePack is.
type packedKind byte

const (
	packedNumber packedKind = iota // a boolean is 0 or 1
	packedBytes
	packedNil
)

// packed is one MessagePack value, of those that memberlist sends.
type packed struct {
	kind   packedKind
	number uint64
	size   int // of bytes
}

// fields reads a map with text as its keys and plain values, which is how
// memberlist writes a struct, and shows each field to see.
func (in *intake) fields(see func(name string, v packed)) error {
	b, err := in.one()
	if err != nil {
		return err
	}
	const most = 15 // memberlist's largest struct has 8
	if b < 0x80 || b > 0x80+most {
		return fmt.Errorf("%w: no fields", errIntake)
	}
	for range b - 0x80 {
		at := in.pos
		key, err := in.value()
		if err != nil {
			return err
		}
		if key.kind != packedBytes || key.size == 0 || key.size > 64 {
			return fmt.Errorf("%w: field name", errIntake)
		}
		name := string(in.last(key.size))
		if in.pos-at > 2+key.size {
			return fmt.Errorf("%w: field name", errIntake)
		}
		v, err := in.value()
		if err != nil {
			return err
		}
		see(name, v)
	}
	return nil
}

// value reads one plain value. Lists, maps, fractions and extensions are none:
// memberlist sends none within a struct.
func (in *intake) value() (packed, error) {
	b, err := in.one()
	if err != nil {
		return packed{}, err
	}
	switch {
	case b <= 0x7f:
		return packed{kind: packedNumber, number: uint64(b)}, nil
	case b >= 0xa0 && b <= 0xbf:
		return in.bytes(uint64(b & 0x1f))
	}
	switch b {
	case 0xc0:
		return packed{kind: packedNil}, nil
	case 0xc2, 0xc3:
		return packed{kind: packedNumber, number: uint64(b & 1)}, nil
	case 0xc4, 0xd9: // bin 8, str 8
		n, err := in.uint(1)
		if err != nil {
			return packed{}, err
		}
		return in.bytes(n)
	case 0xc5, 0xda: // bin 16, str 16
		n, err := in.uint(2)
		if err != nil {
			return packed{}, err
		}
		return in.bytes(n)
	case 0xc6, 0xdb: // bin 32, str 32
		n, err := in.uint(4)
		if err != nil {
			return packed{}, err
		}
		return in.bytes(n)
	case 0xcc, 0xcd, 0xce, 0xcf: // uint 8 to 64
		n, err := in.uint(1 << (b - 0xcc))
		return packed{kind: packedNumber, number: n}, err
	case 0xd0, 0xd1, 0xd2, 0xd3: // int 8 to 64, of which only the positive occur
		size := 1 << (b - 0xd0)
		n, err := in.uint(size)
		if err == nil && n>>(8*size-1) == 1 {
			err = fmt.Errorf("%w: negative number", errIntake)
		}
		return packed{kind: packedNumber, number: n}, err
	}
	return packed{}, fmt.Errorf("%w: value of kind %#x", errIntake, b)
}

func (in *intake) uint(size int) (uint64, error) {
	b, err := in.take(size)
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n, nil
}

func (in *intake) bytes(n uint64) (packed, error) {
	if n > maxSmall {
		return packed{}, fmt.Errorf("%w: a value of %d bytes", errIntake, n)
	}
	return packed{kind: packedBytes, size: int(n)}, in.skip(int(n))
}

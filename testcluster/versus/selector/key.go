package main

import (
	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
	"github.com/kkdai/maglev"
)

// keys are asked for in turn; keyBytes are the same.
var (
	keys     = names("customer-", 1024)
	keyBytes = func() (out [][]byte) {
		for _, k := range keys {
			out = append(out, []byte(k))
		}
		return out
	}()
)

type member string

func (m member) String() string { return string(m) }

type xx struct{}

func (xx) Sum64(b []byte) uint64 { return xxhash.Sum64(b) }

// circle is buraksezer/consistent.
type circle struct{ c *consistent.Consistent }

func newCircle(peers []string) circle {
	var members []consistent.Member
	for _, p := range peers {
		members = append(members, member(p))
	}
	return circle{consistent.New(members, consistent.Config{Hasher: xx{}, PartitionCount: 10007, ReplicationFactor: 20, Load: 1.25})}
}

func (c circle) swap(gone, come string) {
	c.c.Remove(gone)
	c.c.Add(member(come))
}

func (c circle) bench() bench {
	return bench{loop: func(n int) (length int) {
		for i := range n {
			length += len(c.c.LocateKey(keyBytes[i&(len(keyBytes)-1)]).String())
		}
		return length
	}}
}

// lookup is kkdai/maglev.
type lookup struct{ m *maglev.Maglev }

func newLookup(peers []string) lookup {
	m, err := maglev.NewMaglev(append([]string(nil), peers...), 65537)
	if err != nil {
		panic(err) // the names are different ones
	}
	return lookup{m}
}

func (l lookup) swap(gone, come string) {
	if l.m.Remove(gone) != nil || l.m.Add(come) != nil {
		panic("maglev: no such peer")
	}
}

func (l lookup) bench() bench {
	return bench{loop: func(n int) (length int) {
		for i := range n {
			p, _ := l.m.Get(keys[i&(len(keys)-1)])
			length += len(p)
		}
		return length
	}}
}

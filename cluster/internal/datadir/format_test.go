package datadir

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The file as it lies on the disk. A difference is a change of the format:
// other versions must still read it, and the package comment must tell of it.
func TestFormatIsTheGoldenFile(t *testing.T) {
	golden := filepath.Join("testdata", "members-v2.json")
	got, err := encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("the file is now\n%swant\n%s", got, want)
	}
	if c, skipped, err := decode(want); err != nil || skipped != 0 || !reflect.DeepEqual(c, sample()) {
		t.Errorf("read as %+v, %d skipped, %v", c, skipped, err)
	}
}

// A file of version 1, as a peer of that version wrote it: years of the wall
// clock age nobody.
func TestFormatReadsVersion1(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "members-v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	want.Prev = 0
	for i := range want.Peers {
		want.Peers[i].Absent = 0
	}
	if c, skipped, err := decode(data); err != nil || skipped != 0 || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %d skipped, %v\nwant %+v", c, skipped, err, want)
	}
}

// A newer version has fields that this one does not know, in the payload and in
// a peer, and one peer that makes no sense here. The rest is read.
func TestFormatReadsANewerVersion(t *testing.T) {
	const payload = `{"self":"0123456789abcdef","prev":{"of":"another shape"},"epoch":9,"peers":[
		{"name":"a","instance":"0123456789abcde0","addr":"10.0.0.1:7946","state":"resting","absent":60,"zone":"x"},
		{"name":"b","instance":"0123456789abcde1","addr":["10.0.0.2:7946","10.1.0.2:7946"]}
	]}`
	sum, err := checksum(9, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	c, skipped, err := decode(fmt.Appendf(nil, `{"version":9,"checksum":%q,"payload":%s,"signed":true}`, sum, payload))
	want := Contents{Self: 0x0123456789abcdef, Peers: []Peer{
		{Name: "a", Instance: 0x0123456789abcde0, Addr: netip.MustParseAddrPort("10.0.0.1:7946"), State: "resting", Absent: time.Minute},
	}}
	if err != nil || skipped != 1 || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %d skipped, %v\nwant %+v", c, skipped, err, want)
	}
}

func TestBound(t *testing.T) {
	var peers []Peer
	add := func(n int, absent func(i int) time.Duration) {
		for i := range n {
			peers = append(peers, Peer{
				Name: fmt.Sprintf("n%05d", len(peers)), Instance: uint64(len(peers) + 1),
				Addr: netip.MustParseAddrPort("10.0.0.1:7946"), Absent: absent(i),
			})
		}
	}
	names := func(ps []Peer) []string {
		var out []string
		for _, p := range ps {
			out = append(out, p.Name)
		}
		slices.Sort(out)
		return out
	}

	add(1500, func(i int) time.Duration { return time.Duration(1500-i) * time.Minute }) // the first ones longest
	add(3000, func(int) time.Duration { return 0 })
	before := slices.Clone(peers)
	if got, want := names(Bound(peers)), names(peers[500:]); !slices.Equal(got, want) {
		t.Errorf("kept %d peers from %s on, want %d from %s on", len(got), got[0], len(want), want[0])
	}
	if !reflect.DeepEqual(peers, before) {
		t.Error("the argument was changed")
	}

	peers = nil
	add(MaxAbsent, func(int) time.Duration { return time.Second })
	add(MaxPeers, func(int) time.Duration { return 0 })
	for _, p := range Bound(peers) {
		if p.Absent > 0 {
			t.Fatalf("%s is absent and kept instead of one who is present", p.Name)
		}
	}
	if got := Bound([]Peer{{Name: "no address", Instance: 1}}); len(got) != 0 {
		t.Errorf("kept %+v", got)
	}
}

// The longest names and addresses, as many as there may be, are read again.
func TestFormatFitsItsBounds(t *testing.T) {
	var c Contents
	for i := range MaxPeers {
		c.Peers = append(c.Peers, Peer{
			Name: fmt.Sprintf("%s-%05d", strings.Repeat("n", maxNameBytes-6), i), Instance: 1e18 + uint64(i),
			Addr:  netip.MustParseAddrPort("[fe80:1111:2222:3333:4444:5555:6666:7777%" + strings.Repeat("w", maxZoneBytes) + "]:65535"),
			State: strings.Repeat("s", maxStateBytes),
		})
	}
	data, err := encode(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes for %d peers", len(data), MaxPeers)
	if len(data) > maxBytes {
		t.Errorf("%d bytes, more than decode reads", len(data))
	}
	if got, skipped, err := decode(data); err != nil || skipped != 0 || len(got.Peers) != MaxPeers {
		t.Errorf("%d peers, %d skipped, %v", len(got.Peers), skipped, err)
	}
}

package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func sample() Contents {
	return Contents{
		Self: 0x0123456789abcdef,
		Prev: 0x0123456789abcdee,
		Peers: []Peer{
			{Name: "a", Instance: 0x0123456789abcde0, Addr: netip.MustParseAddrPort("10.0.0.1:7946"), State: "alive"},
			{Name: "b.example", Instance: 0x0123456789abcde1, Addr: netip.MustParseAddrPort("[2001:db8::1]:7947"), State: "failed", Absent: time.Hour},
			{Name: "b.example", Instance: 0x0123456789abcde2, Addr: netip.MustParseAddrPort("[fe80::1%eth0]:7947"), State: "left", Absent: 70 * time.Hour},
			{Name: "c", Instance: 0x0123456789abcde3, Addr: netip.MustParseAddrPort("10.0.0.3:1"), State: "suspect"},
		},
	}
}

func mustOpen(t testing.TB, fsys FS, dir string) (*Dir, Contents, string) {
	t.Helper()
	d, err := Open(fsys, dir)
	if err != nil {
		t.Fatalf("open %s: %v", dir, err)
	}
	c, warning := d.Load()
	return d, c, warning
}

// mustHold checks that a store on dir holds want and has nothing to say.
func mustHold(t testing.TB, dir string, want Contents) {
	t.Helper()
	_, got, warning := mustOpen(t, Disk(), dir)
	if warning != "" {
		t.Errorf("warning %q", warning)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("remembered\n got %+v\nwant %+v", got, want)
	}
}

func TestDirRemembers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	s, r, warning := mustOpen(t, Disk(), dir)
	if warning != "" || r.Self != 0 || len(r.Peers) != 0 {
		t.Fatalf("first start: %+v, %q", r, warning)
	}
	want := sample()
	if err := s.Save(want); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, want)

	// Any order and finer times come back as the same value.
	shuffled := sample()
	p := shuffled.Peers
	p[0], p[1], p[2], p[3] = p[2], p[3], p[1], p[0]
	for i := range p {
		p[i].Absent += time.Millisecond
	}
	if err := s.Save(shuffled); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, want)
}

func TestDirWithoutDirKeepsNothing(t *testing.T) {
	s, r, warning := mustOpen(t, faultyFS{}, "") // a nil FS inside: it would panic if it were asked
	if err := s.Save(sample()); err != nil || warning != "" || len(r.Peers) != 0 {
		t.Errorf("%v, %q, %+v", err, warning, r)
	}
}

func TestDirDirThatIsAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		_, err := Open(Disk(), dir)
		if err == nil || !strings.Contains(err.Error(), "name a directory") {
			t.Errorf("%s: %v, want an error that names the fix", dir, err)
		}
	}
}

func TestDirFileIsForPeopleToo(t *testing.T) {
	data, err := encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	const line = `      {"name":"a","instance":"0123456789abcde0","addr":"10.0.0.1:7946","state":"alive"},`
	if !strings.Contains(string(data), "\n"+line+"\n") {
		t.Errorf("no line for peer a in\n%s", data)
	}
	// Another layout is the same content.
	flat := bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\n"), nil), []byte("  "), nil)
	if got, _, err := decode(flat); err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("laid out otherwise: %+v, %v", got, err)
	}
}

func TestDirSeesEveryCutAndFlippedBit(t *testing.T) {
	data, err := encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	for n := range len(data) - 2 { // without the last newline it is whole still
		if _, _, err := decode(data[:n]); err == nil {
			t.Errorf("cut after %d of %d bytes: not seen", n, len(data))
		}
	}
	harmless := 0
	for i := range len(data) * 8 {
		bad := bytes.Clone(data)
		bad[i/8] ^= 1 << (i % 8)
		got, skipped, err := decode(bad)
		if err != nil {
			continue
		}
		harmless++ // white space, and the case of the outer keys
		if skipped != 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("bit %d of byte %d flipped (%q): read as something else", i%8, i/8, data[i/8])
		}
	}
	if harmless > len(data) {
		t.Errorf("%d of %d flips were not seen", harmless, len(data)*8)
	}
}

func TestDirSetsABadFileAside(t *testing.T) {
	good, err := encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, content, reason, fix string }{
		{"empty", "", "is damaged", "delete it"},
		{"truncated", string(good[:len(good)/2]), "is damaged", "delete it"},
		{"edited", strings.Replace(string(good), "10.0.0.1", "10.0.0.9", 1), "checksum", "delete it"},
		{"no version", strings.Replace(string(good), `"version": 2`, `"version": 0`, 1), "no version", "delete it"},
		{"version edited", strings.Replace(string(good), `"version": 2`, `"version": 7`, 1), "checksum", "delete it"},
		{"huge", strings.Repeat(" ", maxBytes) + string(good), "is damaged", "delete it"},
		{"other", `[1,2,3]`, "is damaged", "delete it"},
		{"zeroes", strings.Repeat("\x00", 4096), "is damaged", "delete it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, fileName)
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			s, r, warning := mustOpen(t, Disk(), dir)
			if r.Self != 0 || len(r.Peers) != 0 {
				t.Errorf("remembered %+v", r)
			}
			for _, want := range []string{path + " ", tt.reason, path + ".bad", tt.fix} {
				if !strings.Contains(warning, want) {
					t.Errorf("warning %q, want %q in it", warning, want)
				}
			}
			if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != tt.content {
				t.Errorf("kept %d bytes, %v, want the %d as they were", len(kept), err, len(tt.content))
			}
			if err := s.Save(sample()); err != nil {
				t.Fatal(err)
			}
			mustHold(t, dir, sample())
		})
	}
}

func TestDirKeepsTheNewestBadFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, fileName)
	for i := range 5 {
		if err := os.WriteFile(path, fmt.Appendf(nil, "bad %d", i), 0o600); err != nil {
			t.Fatal(err)
		}
		mustOpen(t, Disk(), dir)
	}
	for name, want := range map[string]string{".bad": "bad 4", ".bad.1": "bad 3", ".bad.2": "bad 2"} {
		if got, err := os.ReadFile(path + name); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files in the data dir, %v, want 4: %v", len(entries), err, entries)
	}
}

func TestDirSkipsEntriesThatMakeNoSense(t *testing.T) {
	good := `{"name":"ok","instance":"0123456789abcde0","addr":"10.0.0.1:7946","state":"from the future","absent":7}`
	bad := []string{
		`{"name":"a#b","instance":"0123456789abcde0","addr":"10.0.0.1:7946","state":"alive"}`,
		`{"name":"a","instance":"0000000000000000","addr":"10.0.0.1:7946","state":"alive"}`,
		`{"name":"a","instance":"xyz","addr":"10.0.0.1:7946","state":"alive"}`,
		`{"name":"a","instance":"0123456789abcde0","addr":"10.0.0.1:0","state":"alive"}`,
		`{"name":"a","instance":"0123456789abcde0","addr":"0.0.0.0:7946","state":"alive"}`,
		`{"name":"a","instance":"0123456789abcde0","addr":"224.0.0.1:7946","state":"alive"}`,
		`{"name":"a","instance":"0123456789abcde0","addr":"[fe80::1%\u001b[31m]:7946","state":"alive"}`,
		`{"name":"a","instance":"0123456789abcde0","addr":"somewhere:7946","state":"alive"}`,
		`{"name":"a","instance":"0123456789abcde0","addr":"10.0.0.1:7946","absent":-1}`,
		`{"name":"a","instance":"0123456789abcde0","addr":"10.0.0.1:7946","absent":9223372036854775807}`,
		`{"name":"a","instance":"0123456789abcde0","addr":"10.0.0.1:7946","absent":{"unit":"weeks"}}`,
		`{}`, `[]`, `7`,
	}
	payload := `{"peers":[` + strings.Join(append(bad, good), ",") + `]}`
	sum, err := checksum(2, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, fileName)
	if err := os.WriteFile(path, fmt.Appendf(nil, `{"version":2,"checksum":%q,"payload":%s}`, sum, payload), 0o600); err != nil {
		t.Fatal(err)
	}
	_, r, warning := mustOpen(t, Disk(), dir)
	if len(r.Peers) != 1 || r.Peers[0].Name != "ok" || r.Peers[0].State != "from the future" || r.Peers[0].Absent != 7*time.Second {
		t.Errorf("remembered %+v, want ok alone, as it is", r.Peers)
	}
	if want := fmt.Sprintf("%d entries", len(bad)); !strings.Contains(warning, want) {
		t.Errorf("warning %q, want %q in it", warning, want)
	}
}

// faultyFS is a file system with errors of its own in front of a real one.
type faultyFS struct {
	FS
	read, write, rename, mkdir error
}

func (f faultyFS) ReadFile(name string) ([]byte, error) {
	if f.read != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: f.read}
	}
	return f.FS.ReadFile(name)
}

func (f faultyFS) WriteFile(name string, data []byte) error {
	if f.write != nil {
		return &fs.PathError{Op: "write", Path: name, Err: f.write}
	}
	return f.FS.WriteFile(name, data)
}

func (f faultyFS) Rename(old, new string) error {
	if f.rename != nil {
		return &os.LinkError{Op: "rename", Old: old, New: new, Err: f.rename}
	}
	return f.FS.Rename(old, new)
}

func (f faultyFS) MkdirAll(dir string) error {
	if f.mkdir != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: f.mkdir}
	}
	return f.FS.MkdirAll(dir)
}

func TestDirRunsOnWhenTheDiskDoesNot(t *testing.T) {
	tests := []struct {
		name  string
		fault faultyFS
		fix   string
	}{
		{"disk full", faultyFS{write: syscall.ENOSPC}, "free space"},
		{"over quota", faultyFS{write: syscall.EDQUOT}, "free space"},
		{"read-only", faultyFS{write: syscall.EROFS, rename: syscall.EROFS}, "--data-dir"},
		{"not ours", faultyFS{write: syscall.EACCES, rename: syscall.EACCES}, "--data-dir"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s, _, _ := mustOpen(t, Disk(), dir)
			if err := s.Save(sample()); err != nil {
				t.Fatal(err)
			}
			tt.fault.FS = Disk()
			s, r, warning := mustOpen(t, tt.fault, dir)
			if !reflect.DeepEqual(r, sample()) {
				t.Errorf("remembered %+v, want what the disk still gives", r)
			}
			if !strings.Contains(warning, dir) || !strings.Contains(warning, tt.fix) {
				t.Errorf("warning %q, want the dir and %q in it", warning, tt.fix)
			}
			if err := s.Save(Contents{}); !errors.Is(err, tt.fault.write) {
				t.Errorf("save: %v, want %v", err, tt.fault.write)
			}
			mustHold(t, dir, sample())
		})
	}
}

func TestDirDirThatCannotBeMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	f := &faultyFS{FS: Disk(), mkdir: syscall.EROFS}
	s, _, warning := mustOpen(t, f, dir)
	if !strings.Contains(warning, "--data-dir") {
		t.Errorf("warning %q", warning)
	}
	if err := s.Save(sample()); !errors.Is(err, syscall.EROFS) {
		t.Errorf("save: %v, want EROFS", err)
	}
	f.mkdir = nil // mounted at last
	if err := s.Save(sample()); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, sample())
}

func TestDirNeverOverwritesABadFileItCannotSetAside(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault *faultyFS
	}{
		{"damaged", &faultyFS{FS: Disk(), rename: syscall.EIO}},
		{"unreadable", &faultyFS{FS: Disk(), read: syscall.EIO, rename: syscall.EIO}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, fileName)
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			s, _, warning := mustOpen(t, tt.fault, dir)
			if !strings.Contains(warning, "move it away") {
				t.Errorf("warning %q, want what to do in it", warning)
			}
			if err := s.Save(sample()); !errors.Is(err, syscall.EIO) {
				t.Errorf("save: %v, want EIO", err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != "precious" {
				t.Fatalf("the bad file holds %q, %v", got, err)
			}
			tt.fault.rename, tt.fault.read = nil, nil
			if err := s.Save(sample()); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path + ".bad"); err != nil || string(got) != "precious" {
				t.Errorf("kept %q, %v", got, err)
			}
			mustHold(t, dir, sample())
		})
	}
}

func TestDirSavesFromManyGoroutines(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := mustOpen(t, Disk(), dir)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if err := s.Save(sample()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustHold(t, dir, sample())
}

func FuzzDecode(f *testing.F) {
	data, err := encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"checksum":"xxh64:0","payload":{"self":"","peers":[{}]}}`))
	f.Add([]byte(`{"version":99}`))
	f.Add([]byte(`{"peers":[{"name":"a","instance":"0123456789abcde0","addr":"10.0.0.1:7946","absent":1e99}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(data []byte) {
			r, _, err := decode(data)
			if err != nil {
				return
			}
			if len(r.Peers) > MaxPeers {
				t.Fatalf("%d peers", len(r.Peers))
			}
			again, err := encode(r)
			if err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			second, skipped, err := decode(again)
			if err != nil || skipped != 0 || len(second.Peers) != len(Bound(r.Peers)) || second.Self != r.Self {
				t.Fatalf("what was written cannot be read: %d skipped, %v", skipped, err)
			}
		}
		check(data)
		// With the right checksum, so that the payload's own decoder is met.
		if sum, err := checksum(version, data); err == nil {
			check(fmt.Appendf(nil, `{"version":%d,"checksum":%q,"payload":%s}`, version, sum, data))
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	r := sample()
	p := r.Peers[0]
	for i := range 1000 {
		p.Name = fmt.Sprintf("node-%d", i)
		r.Peers = append(r.Peers, p)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encode(r); err != nil {
			b.Fatal(err)
		}
	}
}

package watch

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden frames")

var (
	goldenKey   = newSecret([]byte("0123456789abcdef0123456789abcdef"), "golden")
	goldenHello = hello{versions: [2]byte{2, 3}, kind: kindWatch, from: 0x1111111111111111, want: 0x2222222222222222, nonce: nonce([]byte("nonce of dialler"))}
	goldenReply = reply{version: 2, versions: [2]byte{2, 2}, id: 0x2222222222222222, nonce: nonce([]byte("nonce, acceptor."))}
)

// The bytes on the wire do not change by accident. A change that is meant gets a
// new version.
func TestGolden(t *testing.T) {
	h := goldenHello.encode(&goldenKey)
	r := goldenReply.encode(&goldenKey, h)
	dialler := goldenKey.half(fromDialler, goldenHello.nonce, goldenReply.nonce)
	acceptor := goldenKey.half(fromAcceptor, goldenHello.nonce, goldenReply.nonce)
	var got strings.Builder
	for _, m := range []struct {
		name string
		b    []byte
	}{
		{"hello", h},
		{"reply", r},
		{"confirm", goldenKey.mac("confirm", h, r)},
		{"dialler 0 beat", dialler.append(nil, frameBeat)},
		{"acceptor 0 echo", acceptor.append(nil, frameEcho)},
		{"dialler 1 beat", dialler.append(nil, frameBeat)},
		{"acceptor 1 goodbye", acceptor.append(nil, Goodbye)},
		{"dialler 2 leave", dialler.append(nil, Leaving)},
	} {
		fmt.Fprintf(&got, "%s\n%s\n", m.name, hex.Dump(m.b))
	}
	const file = "testdata/frames.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("frames on the wire: got\n%swant\n%s", got.String(), want)
	}
}

// lengthen appends fields of a later version to the body of a message and signs
// it anew.
func lengthen(b, more []byte, k *secret, what string, before ...[]byte) []byte {
	b = append(bytes.Clone(b[:len(b)-macSize]), more...)
	binary.BigEndian.PutUint16(b[3:], uint16(len(b)-headSize))
	return append(b, k.mac(what, append(before, b)...)...)
}

func TestLaterFieldsAreIgnored(t *testing.T) {
	long := lengthen(goldenHello.encode(&goldenKey), []byte("and more"), &goldenKey, "hello")
	b, err := readMessage(bytes.NewReader(long[1:]), helloBody, Magic)
	if err != nil {
		t.Fatal(err)
	}
	if h, _, err := parseHello(b, []secret{goldenKey}); err != nil || h != goldenHello {
		t.Errorf("hello: got %v, %v, want %v", h, err, goldenHello)
	}
	answer := lengthen(goldenReply.encode(&goldenKey, long), []byte("and more"), &goldenKey, "reply", long)
	if b, err = readMessage(bytes.NewReader(answer), replyBody); err != nil {
		t.Fatal(err)
	}
	if r, err := parseReply(b, &goldenKey, long); err != nil || r != goldenReply {
		t.Errorf("reply: got %v, %v, want %v", r, err, goldenReply)
	}
}

// The MAC covers every byte, and the reply's covers the hello.
func TestEveryByteIsSigned(t *testing.T) {
	h := lengthen(goldenHello.encode(&goldenKey), []byte("and more"), &goldenKey, "hello")
	r := goldenReply.encode(&goldenKey, h)
	for i := range h {
		bad := bytes.Clone(h)
		bad[i] ^= 1
		if _, _, err := parseHello(bad, []secret{goldenKey}); !errors.Is(err, ErrStranger) {
			t.Errorf("hello with byte %d changed: got %v, want ErrStranger", i, err)
		}
		if _, err := parseReply(r, &goldenKey, bad); !errors.Is(err, ErrStranger) {
			t.Errorf("reply to a hello with byte %d changed: got %v, want ErrStranger", i, err)
		}
	}
	for i := range r {
		bad := bytes.Clone(r)
		bad[i] ^= 1
		if _, err := parseReply(bad, &goldenKey, h); !errors.Is(err, ErrStranger) {
			t.Errorf("reply with byte %d changed: got %v, want ErrStranger", i, err)
		}
	}
}

func TestCommonVersion(t *testing.T) {
	for _, tt := range []struct {
		a, b [2]byte
		want byte
	}{
		{[2]byte{2, 2}, [2]byte{2, 2}, 2},
		{[2]byte{2, 3}, [2]byte{3, 4}, 3},
		{[2]byte{2, 9}, [2]byte{3, 4}, 4},
		{[2]byte{2, 2}, [2]byte{3, 4}, 0},
		{[2]byte{5, 6}, [2]byte{3, 4}, 0},
		{[2]byte{4, 2}, [2]byte{2, 4}, 0}, // a range that is none
	} {
		if got := common(tt.a, tt.b); got != tt.want {
			t.Errorf("%v and %v: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// Frames count: one that is repeated, left out, moved or turned back is not
// taken.
func TestFramesInTheirOrder(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    func(a, b []byte) []byte
		ok   int
	}{
		{"as sent", func(a, b []byte) []byte { return append(a, b...) }, 2},
		{"repeated", func(a, _ []byte) []byte { return append(a, a...) }, 1},
		{"left out", func(_, b []byte) []byte { return b }, 0},
		{"swapped", func(a, b []byte) []byte { return append(b, a...) }, 0},
		{"another type", func(a, b []byte) []byte { b[0] = Leaving; return append(a, b...) }, 1},
	} {
		sealer := goldenKey.half(fromDialler, goldenHello.nonce, goldenReply.nonce)
		opener := goldenKey.half(fromDialler, goldenHello.nonce, goldenReply.nonce)
		b := tt.b(sealer.append(nil, frameBeat), sealer.append(nil, frameBeat))
		got := 0
		for ; len(b) > 0; b = b[frameSize:] {
			if _, ok := opener.open(b); !ok {
				break
			}
			got++
		}
		if got != tt.ok {
			t.Errorf("%s: %d frames taken, want %d", tt.name, got, tt.ok)
		}
	}
	other := goldenKey.half(fromAcceptor, goldenHello.nonce, goldenReply.nonce)
	opener := goldenKey.half(fromDialler, goldenHello.nonce, goldenReply.nonce)
	if _, ok := opener.open(other.append(nil, frameBeat)); ok {
		t.Error("a frame was taken that goes the other way")
	}
}

// FuzzHello feeds what a stranger sends, and the same as a peer would sign it.
func FuzzHello(f *testing.F) {
	whole := goldenHello.encode(&goldenKey)
	f.Add(whole)
	f.Add(lengthen(whole, []byte("and more"), &goldenKey, "hello"))
	f.Add([]byte{Magic, 1, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		if m, err := readMessage(bytes.NewReader(b[1:]), helloBody, b[0]); err == nil && len(m) > headSize+maxBody+macSize {
			t.Fatalf("read %d bytes of a stranger", len(m))
		}
		h, by, err := parseHello(b, []secret{goldenKey})
		if (err == nil) != (by != nil) || err != nil && h != (hello{}) {
			t.Fatalf("got %v, %v, %v", h, by, err)
		}
		signed := append(bytes.Clone(b), goldenKey.mac("hello", b)...)
		h, _, err = parseHello(signed, []secret{{}, goldenKey})
		if err != nil {
			return
		}
		again, _, err := parseHello(h.encode(&goldenKey), []secret{goldenKey})
		if err != nil || again != h {
			t.Fatalf("%v encoded and parsed again: %v, %v", h, again, err)
		}
	})
}

// FuzzReply does the same for the answer.
func FuzzReply(f *testing.F) {
	to := goldenHello.encode(&goldenKey)
	whole := goldenReply.encode(&goldenKey, to)
	f.Add(whole)
	f.Add(lengthen(whole, []byte("and more"), &goldenKey, "reply", to))
	f.Add([]byte{0, 1, 1, 0, 24})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := readMessage(bytes.NewReader(b), replyBody); err == nil && len(m) > headSize+maxBody+macSize {
			t.Fatalf("read %d bytes of a stranger", len(m))
		}
		if r, err := parseReply(b, &goldenKey, to); err != nil && r != (reply{}) {
			t.Fatalf("got %v, %v", r, err)
		}
		r, err := parseReply(append(bytes.Clone(b), goldenKey.mac("reply", to, b)...), &goldenKey, to)
		if err != nil {
			return
		}
		again, err := parseReply(r.encode(&goldenKey, to), &goldenKey, to)
		if err != nil || again != r {
			t.Fatalf("%v encoded and parsed again: %v, %v", r, again, err)
		}
	})
}

// BenchmarkFrame signs and checks one frame.
func BenchmarkFrame(b *testing.B) {
	sealer := goldenKey.half(fromDialler, goldenHello.nonce, goldenReply.nonce)
	opener := goldenKey.half(fromDialler, goldenHello.nonce, goldenReply.nonce)
	frame := make([]byte, 0, frameSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := opener.open(sealer.append(frame, frameBeat)); !ok {
			b.Fatal("a frame of one's own is not taken")
		}
	}
}

// endless is a stranger that never stops. It counts what is read.
type endless int

func (e *endless) Read(b []byte) (int, error) {
	clear(b)
	*e += endless(len(b))
	return len(b), nil
}

func TestLongMessagesAreNotRead(t *testing.T) {
	for _, n := range []uint16{0, helloBody - 1, maxBody + 1, 0xffff} {
		rest := new(endless)
		head := binary.BigEndian.AppendUint16([]byte{2, 2}, n)
		_, err := readMessage(io.MultiReader(bytes.NewReader(head), rest), helloBody, Magic)
		if !errors.Is(err, ErrStranger) || *rest != 0 {
			t.Errorf("a body of %d bytes: %v after %d bytes, want ErrStranger after none", n, err, *rest)
		}
	}
}

// A confirmation keeps a stream only where this very instance is wanted, to be
// watched. Frames of a later version's types are then ignored.
func TestWhatAConfirmationKeeps(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind byte
		want uint64
		kept bool
	}{
		{"watch", kindWatch, 2, true},
		{"probe", kindProbe, 2, false},
		{"later kind", 3, 2, false},
		{"another instance", kindWatch, 3, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			events := make(chan Kind, 10)
			w := New(Config{
				Self: 2,
				Know: func(uint64) bool { return true },
				On:   func(e Event) { events <- e.Kind },
			})
			mine, its := net.Pipe()
			defer mine.Close()
			go w.Accept(its)
			key := newSecret(nil, "")
			h := hello{versions: [2]byte{2, 2}, kind: tt.kind, from: 1, want: tt.want, nonce: newNonce()}
			sent := h.encode(&key)
			_, _ = mine.Write(sent[1:])
			got, err := readMessage(mine, replyBody)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = mine.Write(key.mac("confirm", sent, got))
			synctest.Wait()
			if kept := len(events) == 1; kept != tt.kept {
				t.Errorf("%s: kept %v, want %v", tt.name, kept, tt.kept)
			}
			if tt.kept {
				r, _ := parseReply(got, &key, sent)
				sealer := key.half(fromDialler, h.nonce, r.nonce)
				_, _ = mine.Write(sealer.append(nil, '?'))
				_ = mine.SetReadDeadline(time.Now().Add(time.Minute))
				if n, err := mine.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: an unknown frame is answered: %d bytes, %v", tt.name, n, err)
				}
				_, _ = mine.Write(sealer.append(nil, Leaving))
				synctest.Wait()
				if up, last := <-events, <-events; up != Up || last != Left {
					t.Errorf("%s: got %v, %v, want up, left", tt.name, up, last)
				}
			}
			w.Close()
		})
	}
}

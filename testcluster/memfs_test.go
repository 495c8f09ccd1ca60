package testcluster_test

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"github.com/peerhq/peer/testcluster"
)

func TestMemFS(t *testing.T) {
	m := new(testcluster.MemFS)
	if _, err := m.ReadFile("/d/f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read a missing file: %v", err)
	}
	if err := m.WriteFile("/d/f", []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write into a missing directory: %v", err)
	}
	for range 2 {
		if err := m.MkdirAll("/d/e"); err != nil {
			t.Fatal(err)
		}
	}
	data := []byte("one")
	if err := m.WriteFile("/d/e/../f", data); err != nil {
		t.Fatal(err)
	}
	data[0] = 'X'
	got, err := m.ReadFile("/d/f")
	if err != nil || string(got) != "one" {
		t.Errorf("read %q, %v", got, err)
	}
	got[0] = 'X'
	if again, _ := m.ReadFile("/d/f"); string(again) != "one" {
		t.Errorf("what was read is not a copy: %q", again)
	}
	if err := m.Rename("/d/f", "/d/e/g"); err != nil {
		t.Fatal(err)
	}
	if err := m.Rename("/d/f", "/d/h"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename a missing file: %v", err)
	}
	if files := m.Files(); !slices.Equal(files, []string{"/d/e/g"}) {
		t.Errorf("files: %v", files)
	}

	m.Fail(syscall.ENOSPC)
	for what, err := range map[string]error{
		"write": m.WriteFile("/d/e/g", nil), "rename": m.Rename("/d/e/g", "/d/g"), "mkdir": m.MkdirAll("/new"),
	} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s on a full disk: %v", what, err)
		}
	}
	if got, err := m.ReadFile("/d/e/g"); err != nil || string(got) != "one" {
		t.Errorf("read from a full disk: %q, %v", got, err)
	}
}

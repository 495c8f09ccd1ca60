package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const (
	fileName = "members.json"
	keptBad  = 3 // damaged files that are set aside
)

// Dir is the data dir of one peer. Its methods may be called from any
// goroutine, and wait for the disk.
type Dir struct {
	fs     FS
	path   string // empty: keeps nothing
	broken error  // of making the directory

	mu     sync.Mutex
	intact bool // what lies at path may be replaced
}

// Open makes sure that there is a directory at dir. With dir "" nothing is kept.
// Only a dir that can never become a directory is an error; what else is wrong
// with it is told by Load.
func Open(fsys FS, dir string) (*Dir, error) {
	d := &Dir{fs: fsys, intact: true}
	if dir == "" {
		return d, nil
	}
	d.path = filepath.Join(dir, fileName)
	d.broken = fsys.MkdirAll(dir)
	if errors.Is(d.broken, syscall.ENOTDIR) {
		return nil, fmt.Errorf("open data dir %s: it is, or lies below, a file: name a directory", dir)
	}
	return d, nil
}

// Load returns what the directory holds, nothing on a first start, and a warning
// that says what to do when something is wrong with it.
func (d *Dir) Load() (c Contents, warning string) {
	switch {
	case d.path == "":
		return Contents{}, ""
	case d.broken != nil:
		return Contents{}, d.unwritable(d.broken)
	}
	var warnings []string
	data, err := d.fs.ReadFile(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		warnings = append(warnings, d.setAside(fmt.Errorf("cannot be read: %w", err)))
	default:
		var skipped int
		if c, skipped, err = decode(data); err != nil {
			warnings = append(warnings, d.setAside(err))
		} else if skipped > 0 {
			warnings = append(warnings, fmt.Sprintf("%s: %d entries make no sense and are forgotten: nothing to do if their members are seen again", d.path, skipped))
		}
	}
	// Written back at once, so that a directory that takes nothing is known
	// now and not at the next outage.
	if d.intact {
		if err := d.Save(c); err != nil {
			warnings = append(warnings, d.unwritable(err))
		}
	}
	return c, strings.Join(warnings, "; ")
}

// Save replaces what the directory holds by c, of whose peers it keeps those
// that Bound keeps. It waits until the disk has it: do not call it from a
// goroutine that others wait for.
func (d *Dir) Save(c Contents) error {
	if d.path == "" {
		return nil
	}
	data, err := encode(c)
	if err != nil {
		return fmt.Errorf("save members: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.intact {
		if _, err := d.rotate(); err != nil {
			return fmt.Errorf("save members: set the damaged %s aside: %w", d.path, err)
		}
		d.intact = true
	}
	err = d.fs.WriteFile(d.path, data)
	if errors.Is(err, fs.ErrNotExist) { // the directory could not be made at the start, or was removed since
		if err = d.fs.MkdirAll(filepath.Dir(d.path)); err == nil {
			err = d.fs.WriteFile(d.path, data)
		}
	}
	if err != nil {
		return fmt.Errorf("save members: %w", err)
	}
	return nil
}

// Taken returns an error when a peer that started after self has written here:
// it was given the same data dir, and two that take turns at writing would each
// remember half.
func (d *Dir) Taken(self uint64) error {
	if d.path == "" {
		return nil
	}
	data, err := d.fs.ReadFile(d.path)
	if err != nil {
		return nil // Save says what is wrong with it
	}
	if c, _, err := decode(data); err == nil && c.Self > self {
		return fmt.Errorf("another peer that started later keeps its members in %s: give every peer a data dir of its own", filepath.Dir(d.path))
	}
	return nil
}

// setAside moves the file, which is of no use for why, out of the way and
// returns the warning about it.
func (d *Dir) setAside(why error) string {
	const lost = "this peer has forgotten whom it knew and finds the cluster by its seeds"
	d.mu.Lock()
	defer d.mu.Unlock()
	kept, err := d.rotate()
	if err != nil {
		d.intact = false
		return fmt.Sprintf("%s %v: %s; it could not be set aside and nothing is saved until it is (%v): move it away, or make the directory writable", d.path, why, lost, err)
	}
	return fmt.Sprintf("%s %v: %s; it is kept as %s: delete it when nobody needs it any more", d.path, why, lost, kept)
}

// rotate renames the file to the newest of the names for damaged ones and
// returns it. It is called with d.mu held.
func (d *Dir) rotate() (string, error) {
	name := func(i int) string {
		if i == 0 {
			return d.path + ".bad"
		}
		return fmt.Sprintf("%s.bad.%d", d.path, i)
	}
	for i := keptBad - 1; i > 0; i-- {
		if err := d.fs.Rename(name(i-1), name(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if err := d.fs.Rename(d.path, name(0)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return name(0), nil
}

// unwritable returns the warning about a directory that takes nothing.
func (d *Dir) unwritable(err error) string {
	dir := filepath.Dir(d.path)
	fix := "make it a directory that this process may write to, or set another with --data-dir"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		fix = "free space on its file system"
	}
	return fmt.Sprintf("data dir %s: %v: after a full outage this peer finds the others by its seeds only: %s", dir, err, fix)
}

package crypt

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// The vectors of the specification.
func TestCheckKnowsTheVectorsOfTheSpecification(t *testing.T) {
	for _, tt := range []struct{ hash, password string }{
		{"$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"},
		{"$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA", "Hello world!"},
		{"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", "Hello world!"},
		{"$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
			"a very much longer text to encrypt.  This one even stretches over morethan one line."},
	} {
		if err := Check(tt.hash, []byte(tt.password)); err != nil {
			t.Errorf("%s: %v", tt.hash, err)
		}
		if err := Check(tt.hash, []byte(tt.password+"x")); !errors.Is(err, ErrWrong) {
			t.Errorf("%s with another password: got %v, want ErrWrong", tt.hash, err)
		}
	}
}

func TestOpensslAgrees(t *testing.T) {
	for _, password := range []string{"x", "hunter2", strings.Repeat("long ", 30), "with ü in it"} {
		for _, kind := range []string{"-5", "-6"} {
			cmd := exec.Command("openssl", "passwd", kind, "-stdin")
			cmd.Stdin = strings.NewReader(password)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("openssl (Debian package openssl): %v", err)
			}
			if err := Check(strings.TrimSpace(string(out)), []byte(password)); err != nil {
				t.Errorf("%s of %q is %s: %v", kind, password, out, err)
			}
		}
	}
}

func TestWhatIsNoHashIsNoWrongPassword(t *testing.T) {
	for _, hash := range []string{"", "x", "$6$", "$6$salt", "$y$j9T$abc$def", "$6$rounds=x$salt$abc", "$6$rounds=99999999999$salt$abc", "$6$rounds=5000$salt"} {
		if err := Check(hash, []byte("x")); err == nil || errors.Is(err, ErrWrong) {
			t.Errorf("%q: got %v, want an error of the hash", hash, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("$6$saltstring$svn8UoSVapNtMuq1ukKS4", []byte("x"))
	f.Add("$5$rounds=1000$$", []byte(""))
	f.Fuzz(func(t *testing.T, hash string, password []byte) {
		if strings.Contains(hash, "rounds=") || len(password) > 1<<10 {
			return // takes its time
		}
		_ = Check(hash, password)
	})
}

package iscsi

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestTheInitiatorNameComesFromTheNearestSource(t *testing.T) {
	uuid := "4c4c4544-0042-3510-8053-b4c04f4d3332\n"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string // prefix; "" for an error
		from  string
	}{
		{"the firmware's", map[string]string{initiatorIBFT: "iqn.2026-01.net.example:fw\n", initiatorFile: "InitiatorName=iqn.2026-01.net.example:file\n"}, "iqn.2026-01.net.example:fw", "/" + initiatorIBFT},
		{"open-iscsi's", map[string]string{initiatorFile: "## a comment\n#InitiatorName=iqn.x:old\nInitiatorAlias=x\nInitiatorName = iqn.2026-01.net.example:file \n", productUUID: uuid}, "iqn.2026-01.net.example:file", "/" + initiatorFile},
		{"Debian's generator was not run", map[string]string{initiatorFile: "GenerateName=yes\n", productUUID: uuid}, "iqn.2026-01.local.initd:", "/" + productUUID},
		{"a board of zeroes", map[string]string{productUUID: "00000000-0000-0000-0000-000000000000\n", machineID: "a9f2\n"}, "iqn.2026-01.local.initd:", "/" + machineID},
		{"a name with a space", map[string]string{initiatorFile: "InitiatorName=iqn.2026-01.net.example:a b\n"}, "", ""},
		{"nothing", nil, "", ""},
	} {
		fs := fstest.MapFS{}
		for k, v := range tc.files {
			fs[k] = &fstest.MapFile{Data: []byte(v)}
		}
		got, from, err := InitiatorName(fs)
		if (err == nil) != (tc.want != "") || !strings.HasPrefix(got, tc.want) || from != tc.from {
			t.Errorf("%s: got %q from %q, %v", tc.name, got, from, err)
		}
		again, _, _ := InitiatorName(fs)
		if again != got {
			t.Errorf("%s: %q the second time", tc.name, again)
		}
	}
}

func TestFilesOfSecretsAreRead(t *testing.T) {
	c, err := ReadCHAP(strings.NewReader("# ours\nuser=store-07\r\nsecret = one=two \n\nmutual-user=t\nmutual-secret=#three\nalgorithms=sha256, md5"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Destroy()
	if c.User != "store-07" || string(c.Secret.Bytes()) != "one=two" || c.MutualUser != "t" || string(c.Mutual.Bytes()) != "#three" || len(c.Algorithms) != 2 {
		t.Errorf("got user %q, mutual user %q, algorithms %q, secrets of %d and %d bytes", c.User, c.MutualUser, c.Algorithms, c.Secret.Len(), c.Mutual.Len())
	}
	for name, text := range map[string]string{
		"nothing":                   "",
		"comments":                  "# a\n",
		"no user":                   "secret=hunter2hunter2\n",
		"no secret":                 "user=hunter2hunter2\n",
		"a secret alone":            "hunter2hunter2\n",
		"an unknown key":            "user=a\nsecret=b\nhunter2hunter2=1\n",
		"a secret twice":            "user=a\nsecret=hunter2hunter2\nsecret=hunter2hunter2\n",
		"an empty secret":           "user=a\nsecret=\n",
		"the same in both":          "user=a\nsecret=hunter2hunter2\nmutual-secret=hunter2hunter2\n",
		"a mutual user alone":       "user=a\nsecret=hunter2hunter2\nmutual-user=b\n",
		"an algorithm nobody knows": "user=a\nsecret=hunter2hunter2\nalgorithms=rot13\n",
		"too long":                  "user=a\nsecret=" + strings.Repeat("hunter2hunter2", 2000),
	} {
		c, err := ReadCHAP(strings.NewReader(text))
		if err == nil {
			c.Destroy()
			t.Errorf("%s: it is taken", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
}

func FuzzReadCHAP(f *testing.F) {
	f.Add("user=a\nsecret=b\n")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ReadCHAP(strings.NewReader(s))
		if err != nil {
			return
		}
		if c.User == "" || c.Secret.Len() == 0 {
			t.Error("half of it is taken")
		}
		c.Destroy()
	})
}

/** Frequent passwords of at least eight characters from public breach statistics, lower case; compared without case. */
const listed = `
password password1 password12 password123 password1234 passw0rd p@ssw0rd p@ssword passpass password!
12345678 123456789 1234567890 0123456789 0987654321 987654321 9876543210 87654321 123123123 1234512345 12341234
11111111 111111111 1111111111 00000000 000000000 0000000000 22222222 55555555 66666666 77777777 88888888 99999999
11223344 1122334455 112233445566 12121212 12131415 13131313 123321123 123454321 147258369 147852369 159753456
159357456 741852963 789456123 321654987 123654789 1357924680 14725836 12345678910 123456789a 123456789q a123456789
a1234567 1234567a 12345678a abc12345 abcd1234 abcdefgh abcd12345 aa123456 aa12345678 1q2w3e4r 1q2w3e4r5t 1q2w3e4r5t6y
1qaz2wsx 1qazxsw2 zaq12wsx zaq1zaq1 q1w2e3r4 q1w2e3r4t5 qwertyui qwertyuiop qwerty12 qwerty123 qwerty1234 qwerty12345
qwer1234 qwe123456 qazwsxedc qweasdzxc asdfghjk asdfghjkl asdf1234 asdfasdf zxcvbnm1 zxcvbnm123 1234qwer 12qwaszx
iloveyou iloveyou1 sunshine princess football football1 baseball baseball1 basketball superman batman123 starwars
trustno1 computer internet whatever michelle jennifer jonathan jordan23 corvette mercedes danielle samantha victoria
liverpool manchester newcastle charlie1 michael1 jessica1 monkey123 dragon123 shadow123 master123 hello123 hellohello
welcome1 welcome123 letmein1 letmein123 changeme changeme1 changeme123 admin123 admin1234 administrator root1234
secret123 test1234 testtest test12345 guest123 user1234 login123 default1 temppass letmeinn access14 google123 facebook1
pokemon123 naruto123 minecraft lol12345 fuckyou1 fuckyou123 blink182 november september december alexander
vpnvpnvpn wireguard wireguard1 vpnpassword vpn12345 vpn-api-vpn
`;

const commonPasswords: ReadonlySet<string> = new Set(listed.trim().split(/\s+/));

/** Whether a password is among the first that anybody would try. */
export function isCommonPassword(password: string): boolean {
  return commonPasswords.has(password.toLowerCase());
}

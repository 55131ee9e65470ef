"""What simulated devices can be: models, system versions and apps, by their real names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["iphone", "ipad", "mac"]
KINDS: tuple[Kind, ...] = ("iphone", "ipad", "mac")


@dataclass(frozen=True, slots=True)
class Model:
    product_name: str
    model_name: str
    marketing_name: str
    model: str
    capacities: tuple[int, ...]
    cellular: bool = False
    battery: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    version: str
    build: str
    weight: int
    """How common it is in the simulated fleet."""


@dataclass(frozen=True, slots=True)
class App:
    identifier: str
    name: str
    version: str
    short_version: str
    size: int
    """Bytes of the bundle."""


MODELS: dict[Kind, tuple[Model, ...]] = {
    "iphone": (
        Model("iPhone17,1", "iPhone", "iPhone 16 Pro", "MYMX3", (128, 256, 512), cellular=True),
        Model("iPhone16,1", "iPhone", "iPhone 15 Pro", "MTQM3", (128, 256), cellular=True),
        Model("iPhone15,4", "iPhone", "iPhone 15", "MTLX3", (128, 256), cellular=True),
        Model("iPhone14,5", "iPhone", "iPhone 13", "MLMT3", (128, 256), cellular=True),
        Model("iPhone14,6", "iPhone", "iPhone SE", "MMX53", (64, 128), cellular=True),
    ),
    "ipad": (
        Model("iPad14,3", "iPad", "iPad Pro (11-inch)", "MNXD3", (128, 256)),
        Model("iPad13,18", "iPad", "iPad (10th generation)", "MPQ03", (64, 256)),
        Model("iPad13,17", "iPad", "iPad Air (5th generation)", "MM6R3", (64, 256), cellular=True),
    ),
    "mac": (
        Model("Mac15,6", "MacBook Pro", "MacBook Pro (14-inch)", "MRX33", (512, 1024)),
        Model("Mac14,2", "MacBook Air", "MacBook Air (M2)", "MLY33", (256, 512)),
        Model("Mac16,10", "Mac mini", "Mac mini (2024)", "MU9D3", (256, 512), battery=False),
    ),
}

_MOBILE_RELEASES = (
    Release("18.1", "22B83", 60),
    Release("18.0.1", "22A3370", 20),
    Release("17.7.1", "21H216", 12),
    Release("17.6.1", "21G93", 5),
    Release("16.7.10", "20H350", 3),
)
RELEASES: dict[Kind, tuple[Release, ...]] = {
    "iphone": _MOBILE_RELEASES,
    "ipad": _MOBILE_RELEASES,
    "mac": (
        Release("15.1", "24B83", 60),
        Release("15.0.1", "24A348", 18),
        Release("14.7.1", "23H222", 14),
        Release("13.7.1", "22H221", 8),
    ),
}

_MOBILE_APPS = (
    App("com.microsoft.Office.Outlook", "Outlook", "52148113", "4.2442.0", 352_000_000),
    App("com.microsoft.skype.teams", "Teams", "6.20.3.2", "6.20.3", 298_000_000),
    App("com.microsoft.Office.Word", "Word", "2.91.24111020", "2.91", 371_000_000),
    App("com.microsoft.azureauthenticator", "Authenticator", "6.8.17", "6.8.17", 104_000_000),
    App("com.google.chrome.ios", "Chrome", "130.0.6723.90", "130.0.6723.90", 241_000_000),
    App("com.google.Maps", "Google Maps", "24.43.3", "24.43.3", 286_000_000),
    App("com.tinyspeck.chatlyio", "Slack", "24.10.50", "24.10.50", 215_000_000),
    App("us.zoom.videomeetings", "Zoom", "6.2.5.20215", "6.2.5", 188_000_000),
    App("com.cisco.anyconnect", "Cisco Secure Client", "5.1.6.103", "5.1.6", 62_000_000),
    App("com.agilebits.onepassword-ios", "1Password", "81054009", "8.10.54", 142_000_000),
    App("com.getdropbox.Dropbox", "Dropbox", "398.3", "398.3", 259_000_000),
    App("com.salesforce.chatter", "Salesforce", "250.050.0", "250.050.0", 173_000_000),
    App("com.servicenow.fulfiller", "Now Mobile", "19.3.1", "19.3.1", 77_000_000),
    App("net.whatsapp.WhatsApp", "WhatsApp", "24.22.76", "24.22.76", 187_000_000),
    App("com.spotify.client", "Spotify", "899000461", "8.9.90", 134_000_000),
    App("com.zhiliaoapp.musically", "TikTok", "369017", "36.9.0", 412_000_000),
    App("com.burbn.instagram", "Instagram", "656870241", "355.1.0", 268_000_000),
    App("com.valvesoftware.Steam", "Steam Mobile", "9072871", "3.9.1", 46_000_000),
)
_MAC_APPS = (
    App("com.apple.Safari", "Safari", "20619.2.8.11.12", "18.1", 13_000_000),
    App("com.apple.mail", "Mail", "3826.200.121", "16.0", 31_000_000),
    App("com.apple.Terminal", "Terminal", "455", "2.14", 11_000_000),
    App("com.apple.dt.Xcode", "Xcode", "23504", "16.1", 3_200_000_000),
    App("com.google.Chrome", "Google Chrome", "6723.92", "130.0.6723.92", 654_000_000),
    App("org.mozilla.firefox", "Firefox", "13224.10.28", "132.0", 391_000_000),
    App("com.microsoft.Word", "Microsoft Word", "16.90.24102720", "16.90", 2_300_000_000),
    App("com.microsoft.Excel", "Microsoft Excel", "16.90.24102720", "16.90", 2_100_000_000),
    App("com.microsoft.Outlook", "Microsoft Outlook", "16.90.24102720", "16.90", 2_000_000_000),
    App("com.microsoft.teams2", "Microsoft Teams", "24277.3502", "24277.3502", 960_000_000),
    App("com.microsoft.VSCode", "Visual Studio Code", "1.95.1", "1.95.1", 561_000_000),
    App("com.tinyspeck.slackmacgap", "Slack", "4.41.97", "4.41.97", 512_000_000),
    App("us.zoom.xos", "zoom.us", "6.2.5.41760", "6.2.5", 214_000_000),
    App("com.docker.docker", "Docker", "172550", "4.35.1", 2_050_000_000),
    App("com.1password.1password", "1Password", "81054009", "8.10.54", 402_000_000),
    App("com.jetbrains.pycharm", "PyCharm", "242.23726.102", "2024.2.4", 2_900_000_000),
    App("com.anydesk.anydeskdesktop", "AnyDesk", "8.1.2", "8.1.2", 58_000_000),
    App("org.m0k.transmission", "Transmission", "14719", "4.0.6", 17_000_000),
)
APPS: dict[Kind, tuple[App, ...]] = {
    "iphone": _MOBILE_APPS,
    "ipad": _MOBILE_APPS,
    "mac": _MAC_APPS,
}

FIRST_NAMES = (
    "Ada", "Bruno", "Chidi", "Dana", "Emil", "Fatima", "Gita", "Hugo", "Ines", "Jonas", "Kira",
    "Liam", "Mei", "Noor", "Olga", "Pablo", "Quinn", "Rosa", "Sami", "Tove", "Uma", "Vera",
)  # fmt: skip
LAST_NAMES = (
    "Abel", "Berg", "Costa", "Diaz", "Eriksen", "Fischer", "Garcia", "Huber", "Ito", "Jansen",
    "Kaya", "Lopez", "Meyer", "Novak", "Okafor", "Patel", "Rossi", "Silva", "Tanaka", "Weber",
)  # fmt: skip

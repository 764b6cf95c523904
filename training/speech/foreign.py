"""Everyday words of nine languages, strung together: not meaningful, but with the sounds of each language."""

from __future__ import annotations

import random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# espeak-ng's voice -> words (nouns, verbs, names and small talk, chosen for their sounds).
WORDS: dict[str, tuple[str, ...]] = {
    "de": _words("""
        Apfel Brücke Bücher fünf Pfeffer Wasser Vogel Mutter Bruder schön Straße zwei Zwiebel Freund
        Wolke Müller möchte laufen bringen öffnen vielleicht Mittwoch Abend Baum Haus Feuer ich auch
        nicht Sprache Kirche Zug Ohr bitte danke warum wohin über unter Öl böse süß Pfanne Himmel Mond
    """),
    "fr": _words("""
        bonjour maison pomme papa beaucoup fromage voiture jardin enfant oiseau fenêtre boire vouloir
        manger pain vin blanc rouge feu peur lune bleu pluie montagne village pourquoi comment jamais
        toujours aujourd'hui homme femme bébé vive bon ombre poire beurre soupe chaud journal yeux huit
    """),
    "es": _words("""
        buenos días abuelo pueblo vino fuego playa perro gato mesa ventana puerta beber volver hablar
        queso pan bueno rojo verde amarillo lluvia montaña hombre mujer niño siempre nunca mañana
        porque quién jabón zapato cielo llave pequeño primavera familia trabajo música febrero palabra
    """),
    "it": _words("""
        buongiorno nonna pane vino bambino formaggio finestra fuoco acqua piove montagna amico famiglia
        parlare bere aprire volare bello bianco verde rosso giallo sempre mai domani perché quando
        chiave pesce gatto uovo luna spiaggia zucchero pepe musica primavera babbo piuma foglia
    """),
    "pt": _words("""
        bom dia avó pão vinho menino queijo janela fogo água chuva montanha amigo família falar beber
        abrir voar bonito branco verde azul vermelho sempre nunca amanhã porque quando chave peixe gato
        ovo lua praia açúcar pimenta música primavera coração palavra homem mulher
    """),
    "ru": _words("""
        мама папа вода хлеб бабушка дом окно вечер утро луна рыба птица белый красный зелёный всегда
        никогда завтра почему когда быстро любовь друг семья говорить пить открывать море мост яблоко
        песня февраль город улица человек жизнь шум ещё чай учитель пожалуйста спасибо
    """),
    "ja": _words("""
        おはよう ありがとう みず ぱん ふね はは ちち まど ひと やま うみ かわ ことば はなす のむ あける
        とぶ きれい しろい あかい みどり いつも あした なぜ いつ かぎ さかな ねこ たまご つき はる うた
        べんきょう びょういん ぶどう ゆき ようび ほん でんわ わたし ともだち ぼく
    """),
    "cmn": _words("""
        你好 谢谢 水 面包 妈妈 爸爸 朋友 窗户 山 海 河 说话 喝 打开 飞 漂亮 白 红 绿 总是 明天 为什么
        什么 钥匙 鱼 猫 月亮 春天 音乐 学习 医院 葡萄 雪 书 电话 我们 苹果 风 火 北方 不 跑步 老师 晚上
    """),
    "hi": _words("""
        नमस्ते पानी रोटी माँ पिता दोस्त खिड़की पहाड़ समुद्र नदी बोलना पीना खोलना उड़ना सुंदर सफेद लाल
        हरा हमेशा कल क्यों कब चाबी मछली बिल्ली अंडा चाँद वसंत संगीत भाषा किताब फूल बारिश भाई बहन
        धन्यवाद आम घर मेरा तुम
    """),
}
UNSPACED = frozenset({"ja", "cmn"})


def foreign(language: str, rng: random.Random) -> str:
    """A row of four to nine words of ``language`` with a comma now and then and an end mark."""
    words = rng.sample(WORDS[language], rng.randint(4, 9))
    gap = "" if language in UNSPACED else " "
    comma = "、" if language == "ja" else "，" if language == "cmn" else ", "
    text = words[0]
    for word in words[1:]:
        text += (comma if rng.random() < 0.2 else gap) + word
    return text + rng.choice("...?!")
